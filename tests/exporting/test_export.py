"""The verb: files of a run, tried before they get their names."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from project import UserError
from project.exporting import command, export
from project.exporting.agreement import as_input
from project.exporting.samples import noise
from project.prediction import load

CONFIG = """
trainer: {max_epochs: 1}
model: {class_path: tiny_task.Carried}
data: {class_path: tiny_task.Shades}
name: tiny
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from project import process, trust, verbs

    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(trust, "PACKAGES", (*trust.PACKAGES, "tiny_task"))
        Path("config.yaml").write_text(CONFIG)
        process.quiet()
        verbs.fit(["--config", "config.yaml"])
    return folder / "runs" / "tiny" / "version_0"


@pytest.fixture
def run(trained) -> Path:
    return Path(shutil.copytree(trained, "run"))


def changed(run: Path, **changes) -> Path:
    """The run's checkpoint with other hyper-parameters of its data."""
    content = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    content["datamodule_hyper_parameters"].update(changes)
    torch.save(content, "changed.ckpt")
    return Path("changed.ckpt")


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_a_file_in_the_runs_folder(run, form, capsys):
    export([str(run), "--format", form])
    file = run / "exports" / f"model.{form}"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{file}: ") and len(lines) == 3
    assert "difference of a probability" in lines[1] and "0.0001 allowed, on 11 images of test" in lines[1]
    assert f"{form} " in lines[2] and "PyTorch " in lines[2] and lines[2].count(" ms") == 2
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    model = load(run, "cpu")
    answer = command.FORMATS[form].opened(file)
    for image in noise(model.preprocessing):
        expected = model.predict([image])[0]
        assert torch.allclose(answer(as_input(image))["probabilities"][0], expected, atol=0.01)


def test_what_the_files_say_of_themselves(run):
    import onnx
    from safetensors import safe_open

    for form in command.FORMATS:
        export([str(run), "--format", form])
    about = onnx.load(run / "exports/model.onnx").metadata_props
    extra = {"metadata.json": ""}
    torch.export.load(run / "exports/model.pt2", extra_files=extra)
    with safe_open(run / "exports/model.safetensors", "pt") as file:
        weights = file.metadata()
    for held in ({entry.key: entry.value for entry in about}, json.loads(extra["metadata.json"]), weights):
        assert held["task"] == "judging"
        assert json.loads(held["class_names"]) == ["dark", "grey", "light"]
        how = json.loads(held["preprocessing"])
        assert (how["channels"], how["size"], how["keep_aspect"]) == (3, [6, 8], False) and len(how["mean"]) == 3


def test_weights_alone(run, capsys):
    from safetensors.torch import load_file

    export([str(run), "--format", "safetensors", "--out", "weights/mine.safetensors"])
    file = Path("weights/mine.safetensors")
    assert capsys.readouterr().out.startswith(f"{file}: ")
    Path("other").touch()
    assert file.stat().st_mode == Path("other").stat().st_mode  # which others may read
    net = torch.nn.Linear(3 * 6 * 8, 3)
    net.load_state_dict(load_file(file))
    assert torch.equal(net.weight, load(run, "cpu").task.net.weight)


def test_a_file_that_does_not_agree_is_removed(run, monkeypatch):
    import tiny_task

    monkeypatch.setattr(tiny_task.Answer, "forward", lambda self, images, *_: (self.net(images.flatten(1)),))
    for form in ("onnx", "pt2"):
        with pytest.raises(UserError, match="does not agree with PyTorch and is removed: difference of a") as raised:
            export([str(run), "--format", form])
        assert raised.value.exit_code == 1
    assert not list((run / "exports").iterdir())


def test_a_file_there_stays_until_the_next_one_is_good(run, monkeypatch):
    import tiny_task

    export([str(run)])
    before = (run / "exports/model.onnx").read_bytes()
    monkeypatch.setattr(tiny_task.Answer, "tolerance", -1.0)
    with pytest.raises(UserError):
        export([str(run)])
    assert (run / "exports/model.onnx").read_bytes() == before


def test_images_that_tell_on_each_other(run, monkeypatch):
    """One by one they are right, in a batch they are not."""
    import tiny_task

    def forward(self, images, *_):
        found = self.net(images.flatten(1)).softmax(1)
        return (found.mean(0, keepdim=True).expand_as(found),)

    monkeypatch.setattr(tiny_task.Answer, "forward", forward)
    with pytest.raises(UserError, match="does not agree"):
        export([str(run)])


def test_without_the_data_noise_is_compared(run, capsys):
    export([str(changed(run, test=0, train=0)), "--out", "there.onnx"])
    assert "on 3 images of noise, since the run's data cannot be read (" in capsys.readouterr().out
    assert Path("there.onnx").is_file()


def test_without_test_images_those_of_val(run, capsys):
    export([str(changed(run, test=0, val=5))])
    assert "on 5 images of val" in capsys.readouterr().out
    assert Path("exports/model.onnx").is_file()  # beside the checkpoint, which lies in no run


def test_packages_that_are_missing(run, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"onnx needs onnx and onnxruntime: pip install -c constraints.txt .*export"):
        export([str(run)])
    with pytest.raises(UserError, match="safetensors needs safetensors: "):
        export([str(run), "--format", "safetensors"])


def test_a_strangers_run(run, monkeypatch, capsys):
    from project import trust

    monkeypatch.setattr(trust, "PACKAGES", ("project", "torch"))
    with pytest.raises(UserError, match="'tiny_task' is not trusted"):
        export([str(run)])
    export([str(run), "--trust", "tiny_task"])
    assert "on 11 images of test" in capsys.readouterr().out


@pytest.mark.parametrize("form, other", [("onnx", "safetensors"), ("pt2", "onnx")])
def test_what_a_format_cannot_take(run, form, other, monkeypatch):
    import tiny_task

    def forward(self, images, *_):
        raise RuntimeError("no such operation\nand a page of more")

    monkeypatch.setattr(tiny_task.Answer, "forward", forward)
    with pytest.raises(UserError, match=rf"^{form} cannot take Linear .*no such operation.*--format {other}") as raised:
        export([str(run), "--format", form])
    assert "\n" not in str(raised.value) and not list((run / "exports").iterdir())


@pytest.mark.parametrize(
    "args, said",
    [
        ([], "which run"),
        (["--format", "onnx"], "which run"),
        (["gone"], "no run folder or checkpoint"),
        (["run", "--format", "onx"], "format.*onx.*onnx"),
        (["run", "--frmat", "onnx"], "no key 'frmat'; did you mean 'format'"),
        (["run", "--out", "run/config.yaml/model.onnx"], "cannot be written"),
    ],
)
def test_mistakes(run, args, said):
    with pytest.raises(UserError, match=said):
        export(args)


def test_a_task_without_it(run, monkeypatch):
    import tiny_task

    monkeypatch.delattr(tiny_task.Carried, "exported")
    with pytest.raises(UserError, match=r"Carried has no `exported\(\)`"):
        export([str(run)])
