"""`test RUN --data OTHER`: a model is tested on data of another format. Classes are found by their names."""

import shutil

import pytest

from kit.cli import verbs
from kit.ground.errors import UserError
from project.detection import BoxFolder, DigitScenes

STATE = {"in_channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3}


@pytest.mark.parametrize("names", [["owl", "zebra", "dog", "cat"], ["cat", "dog", "owl"]], ids=" ".join)
@pytest.mark.parametrize("kind", ["voc", "yolo"])
def test_labels_are_those_of_the_model(tiny, tmp_path, kind, names):
    some = tiny.pictures(5)
    images, labels = ("images", "labels") if kind == "yolo" else (".", ".")
    tiny.save(tmp_path / "data" / images, some)
    (tiny.yolo if kind == "yolo" else tiny.voc)(tmp_path / "data" / labels, some)
    (tmp_path / "data" / "classes.txt").write_text("\n".join(tiny.CLASSES))
    data = BoxFolder(root=str(tmp_path / "data"), image_size=(32, 32))
    data.load_state_dict({**STATE, "class_names": names})
    data.all_is_test = True
    data.setup("test")
    found = [[names[label - 1] for label in target["labels"].tolist()] for target in data.samples["test"].targets]
    assert found == [picture.names for picture in some]


def test_model_of_another_format_is_tested(tiny, tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tiny, "CLASSES", ["7", "3", "cat"])
    some = tiny.pictures(5)
    for picture in some:
        picture.names = ["37"[number % 2] for number in range(len(picture.names))]
    tiny.save(tmp_path / "data" / "images", some)
    tiny.yolo(tmp_path / "data" / "labels", some)
    (tmp_path / "data" / "classes.txt").write_text("7\n3\n")
    command = [str(tiny_run), "--data", "project.detection.BoxFolder", "--data.root", str(tmp_path / "data")]
    verbs.test(command)
    assert "test/map " in capsys.readouterr().out
    (tmp_path / "data" / "classes.txt").write_text("7\ncat\n")
    with pytest.raises(UserError, match="'cat'"):
        verbs.test(command)


def test_options_of_the_runs_format_are_not_used_for_another_format(tiny, fit, tmp_path, capsys):
    some = tiny.pictures(24)
    for name, write in (("mine", tiny.yolo), ("other", tiny.voc)):
        tiny.save(tmp_path / name, some)
        write(tmp_path / name, some)
    net = tiny.RUN[tiny.RUN.index("--model.net.widths") :]
    data = ["--data", "project.detection.BoxFolder", "--data.root", str(tmp_path / "mine"), "--data.format", "yolo"]
    run = fit(*data, "--data.names", str(tiny.CLASSES), "--check", "off", "--trainer.max_epochs", "1", *net)
    verbs.test([str(run), "--data.root", str(tmp_path / "other")])
    assert "test/map " in capsys.readouterr().out
    shutil.copytree(tmp_path / "mine", tmp_path / "more")  # it has no names either: those of the run are used
    verbs.test([str(run), "--data.root", str(tmp_path / "more")])
    with pytest.raises(UserError, match=r"data\.names"):
        verbs.test([str(run), "--data.root", str(tmp_path / "other"), "--data.names", "[cat, dog, owl]"])


def test_generated_scenes_have_classes_of_their_own():
    data = DigitScenes(scenes=10)
    data.load_state_dict({**STATE, "class_names": ["cat", "dog"]})
    with pytest.raises(UserError, match=r"0, 1, .*cat, dog"):
        data.setup("test")
