"""Use a trained model from the command line and from Python, given only its run folder."""

import csv
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import tiny_task
import torch
from PIL import Image
from tiny_run import made_once

from kit.data import Preprocessing
from kit.ground.errors import BrokenFiles, UserError
from kit.prediction import load, predict, predictor
from kit.prediction.predictor import available_cores

CONFIG = """
trainer: {max_epochs: 30}
model: {class_path: tiny_task.Used, init_args: {lr: 0.1}}
data: {class_path: tiny_task.Shades, init_args: {train: 300, batch_size: 8}}
name: tiny
"""
GREYS = {"dark": 60, "grey": 100, "light": 140}


@pytest.fixture(scope="module")
def trained(once):
    return made_once(once, "tiny_used", CONFIG)


@pytest.fixture
def photos() -> Path:
    """Make nine images of different sizes, named by their shades."""
    for number, (name, value) in enumerate(list(GREYS.items()) * 3):
        Path("photos").mkdir(exist_ok=True)
        Image.new("RGB", (9 + number, 7), (value,) * 3).save(f"photos/{number}_{name}.png")
    return Path("photos")


def written_lines(folder: Path) -> list[str]:
    return (folder / "told.txt").read_text().splitlines()


def test_predict_from_python(trained, photos):
    model = load(trained, device="cpu")
    paths = sorted(photos.iterdir())
    pil = [Image.open(path) for path in paths]
    tensors = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in pil]
    right = [path.stem.split("_")[1] for path in paths]
    for given in (paths, list(map(str, paths)), pil, tensors, iter([paths[0], pil[1], tensors[2], *paths[3:]])):
        assert model.predict(given, batch_size=4) == right
    assert model.predict([]) == []
    assert model.class_names == list(GREYS)
    assert model.preprocessing.size == (6, 8)
    assert not model.task.training and not any(p.requires_grad for p in model.task.parameters())


def test_single_image_is_refused(trained, photos):
    model = load(trained)
    for image in ("photos/0_dark.png", Image.open("photos/0_dark.png"), torch.zeros(3, 5, 5, dtype=torch.uint8)):
        with pytest.raises(UserError, match="takes a list of images"):
            model.predict(image)


def test_broken_image_raises_in_python(trained, photos):
    Path("photos/4_grey.png").write_bytes(b"")
    with pytest.raises(BrokenFiles, match=r"4_grey\.png: an empty file"):
        load(trained).predict(sorted(photos.iterdir()))


def test_predict_from_the_command_line(trained, photos, capsys):
    predict([str(trained), "photos", "--out", "out"])
    assert written_lines(Path("out")) == [f"{n}_{name}.png {name}" for n, name in enumerate(list(GREYS) * 3)]
    assert sum(path.suffix == "" for path in Path("out").iterdir()) == 9
    assert "9 images predicted: out/told.txt" in capsys.readouterr().out


def test_default_folder_is_in_the_run(trained, photos):
    predict([str(trained / "checkpoints" / "best.ckpt"), "photos/0_dark.png"])
    assert written_lines(trained / "predictions") == ["0_dark.png dark"]


def test_options_of_the_task(trained, photos):
    predict([str(trained), "photos/0_dark.png", "--out", "out", "--shout", "true", "--batch_size", "2"])
    assert written_lines(Path("out")) == ["0_dark.png DARK"]


def test_broken_images_are_listed_and_others_predicted(trained, photos):
    Path("photos/3_dark.png").write_bytes(b"no image")
    Path("photos/8_light.png").write_bytes(Path("photos/7_grey.png").read_bytes()[:-30])
    with pytest.raises(BrokenFiles, match=r"2 of 9 images could not be read or drawn; out/broken\.csv") as caught:
        predict([str(trained), "photos", "--out", "out", "--batch_size", "2"])
    assert caught.value.exit_code == 1
    assert len(written_lines(Path("out"))) == 7
    rows = list(csv.reader(Path("out/broken.csv").read_text().splitlines()))
    assert [row[0] for row in rows] == ["path", "photos/3_dark.png", "photos/8_light.png"]
    assert "photos/3_dark.png: not an image that can be read" in str(caught.value)
    for name in ("3_dark.png", "8_light.png"):
        Path("photos", name).unlink()
    predict([str(trained), "photos", "--out", "out"])
    assert not Path("out/broken.csv").exists()


def test_only_broken_images(trained):
    Path("a.png").touch()
    with pytest.raises(BrokenFiles, match="1 of 1 images could not be read"):
        predict([str(trained), "a.png", "--out", "out"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["photos", "--bach_size", "3"], "no key 'bach_size'; did you mean --batch_size 3?"),
        (["photos", "--batch_size", "0"], "batch_size is 0, but must be a whole number above 0"),
        (["photos", "--max_pixels", "0"], "max_pixels is 0, but must be a whole number above 0"),
        (["photos", "--batch_size", "x"], "batch_size is 'x', but must be"),
        (["photos", "--shout", "5"], "shout is 5, but must be true or false"),
        (["photos", "--device", "gpu"], "device 'gpu' cannot be used"),
        ([], "which images?"),
        (["--out"], "--out needs a value"),
        (["photos", "--out"], "--out needs a value"),
        (["--shout", "photos"], "shout is 'photos', but must be true or false"),
        (["photo"], "photo: no such file or folder"),
    ],
)
def test_wrong_arguments_are_refused(trained, photos, words, message):
    with pytest.raises(UserError) as caught:
        predict([str(trained), *words])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_checkpoint_with_wrong_class_names_is_named(trained, photos):
    content = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    content["hyper_parameters"]["class_names"] = []
    torch.save(content, "other.ckpt")
    with pytest.raises(IndexError) as caught:
        predict(["other.ckpt", "photos", "--out", "out"])
    assert "other.ckpt" in caught.value.__notes__[0]


def test_words_and_options_in_any_order(trained, photos):
    words = ["photos/0_dark.png", "photos/1_grey.png"]
    for place, args in enumerate(
        (
            ["--out", "1", str(trained), *words],
            [str(trained), words[0], "--out=2", words[1]],
            ["--batch_size", "1", str(trained), words[0], "--out", "3", "--", words[1]],
        ),
        1,
    ):
        predict(args)
        assert written_lines(Path(str(place))) == ["0_dark.png dark", "1_grey.png grey"]


def test_file_name_with_dashes_after_double_dash(trained, photos):
    Path("photos/0_dark.png").rename("--out.png")
    predict([str(trained), "--out", "out", "--", "--out.png"])
    assert written_lines(Path("out")) == ["--out.png dark"]


def test_file_name_that_is_not_utf8_is_escaped(trained, photos):
    for name, content in (
        (b"photos/gr\xfc\xdf.png", b""),
        (b"photos/\xfc.png", Path("photos/0_dark.png").read_bytes()),
    ):
        Path(os.fsdecode(name)).write_bytes(content)
    with pytest.raises(BrokenFiles, match="1 of 11 images"):
        predict([str(trained), "photos", "--out", "out"])
    assert Path("out/broken.csv").read_text("utf-8").splitlines()[1] == r"photos/gr\udcfc\udcdf.png,an empty file"
    assert len(written_lines(Path("out"))) == 10


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("encoder error -2 when writing image file"), "encoder error -2 when writing image file"),
        (ValueError("a  line\nbreak"), "a line break"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x"), "[Errno 36] File name too long: 'x'"),
    ],
)
def test_image_that_cannot_be_drawn_is_listed_and_predicted(trained, photos, monkeypatch, error, reason):
    monkeypatch.setattr(tiny_task.Table, "write_files", writing_fails(error))
    with pytest.raises(BrokenFiles, match="1 of 9 images could not be read or drawn"):
        predict([str(trained), "photos", "--out", "out"])
    rows = list(csv.reader(Path("out/broken.csv").read_text().splitlines()))
    assert rows[1:] == [["photos/4_grey.png", f"its picture cannot be drawn: {reason}"]]
    assert len(written_lines(Path("out"))) == 9


def test_large_image_is_refused_and_max_pixels_reads_it(trained, photos, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("RGB", (21, 11), (60,) * 3).save("photos/large.png")
    Image.new("RGB", (20, 10), (60,) * 3).save("photos/medium.png")
    with pytest.raises(BrokenFiles, match="1 of 11 images") as caught:
        predict([str(trained), "photos", "--out", "out"])
    assert "photos/large.png: 231 pixels, but at most 200 are read" in (err := str(caught.value))
    assert "--max_pixels 231" in err
    predict([str(trained), "photos", "--out", "out", "--max_pixels", "231"])
    assert len(written_lines(Path("out"))) == 11 and Image.MAX_IMAGE_PIXELS == 100


def test_full_disk_stops(trained, photos, monkeypatch):
    Path("out").mkdir()
    Path("out/broken.csv").write_text("of an earlier call")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/4.jpg")
    monkeypatch.setattr(tiny_task.Table, "write_files", writing_fails(full))
    with pytest.raises(UserError, match=r"^out/4\.jpg cannot be written: No space left on device$"):
        predict([str(trained), "photos", "--out", "out"])
    assert not Path("out/broken.csv").exists()


def writing_fails(error):
    def write_files(table, file, name, found):
        if file.name == "4_grey.png":
            raise error

    return write_files


def test_earlier_results_are_not_predicted(trained, photos, monkeypatch):
    monkeypatch.setattr(tiny_task.Table, "FOLDERS", ("pictures",))
    Path("photos/out/pictures").mkdir(parents=True)
    Path("photos/0_dark.png").rename("photos/out/pictures/0_dark.png")
    predict([str(trained), "photos", "--out", "photos/out"])
    assert len(written_lines(Path("photos/out"))) == 8


def test_missing_run_is_refused():
    for words in ([], ["--out", "x"], ["runs/gone", "a.png"]):
        with pytest.raises(UserError, match=r"which run\?|no run folder"):
            predict(words)


def test_folder_that_cannot_be_made_is_one_line(trained, photos):
    Path("file").touch()
    with pytest.raises(UserError, match=r"file.* cannot be written: Not a directory|cannot be written: File exists"):
        predict([str(trained), "photos", "--out", "file"])


def test_help(trained, capsys):
    with pytest.raises(SystemExit) as ended:
        predict([str(trained), "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "--shout" in out and "--batch_size" in out and "--print_config" not in out


def test_task_without_predict_is_refused(fit):
    Path("config.yaml").write_text(CONFIG.replace("Used", "Judge"))
    run = fit("--config", "config.yaml", "--trainer.max_epochs", "1")
    with pytest.raises(UserError, match="Judge takes no images: it has no method `predict`"):
        load(run).predict(["a.png"])
    with pytest.raises(UserError, match="Judge has no `Predictions`"):
        predict([str(run), "a.png"])


def test_task_that_generates_images(fit, capsys):
    Path("config.yaml").write_text(CONFIG.replace("Used", "Maker"))
    run = fit("--config", "config.yaml", "--trainer.max_epochs", "1")
    predict([str(run), "--count", "2", "--batch_size", "7", "--out", "out"])
    assert capsys.readouterr().out.endswith("made: out\n")
    assert [path.read_text() for path in sorted(Path("out").iterdir())] == ["dark 7", "grey 7"]
    with pytest.raises(UserError, match=r"a\.png"):
        predict([str(run), "a.png"])
    with pytest.raises(UserError, match="Maker takes no images"):
        load(run).predict(["a.png"])


def test_few_images_are_read_in_advance(trained):
    """Only a few batches are read in advance from an endless stream."""
    count = 0

    def endless():
        nonlocal count
        while True:
            count += 1
            yield torch.zeros(3, 5, 5, dtype=torch.uint8)

    stream = load(trained).stream(endless(), batch_size=4)
    for _ in range(40):
        next(stream)
    assert count <= 40 + 4 * (available_cores() + 3)


@pytest.mark.parametrize("count", [1, 2, 64])
@pytest.mark.parametrize("size", [None, (6, 8), (1024, 1024), (5000, 5000)])
@pytest.mark.parametrize("batch_size", [1, 32, 1000])
def test_fewer_large_images_are_decoded_in_advance(trained, monkeypatch, count, size, batch_size):
    monkeypatch.setattr(predictor, "available_cores", lambda: count)
    model = load(trained)
    monkeypatch.setattr(model, "preprocessing", Preprocessing(3, size, False, [0.5] * 3, [0.5] * 3))
    chunk, times = model._chunk_limits(batch_size)
    height, width = size or (2000, 2000)
    assert 2 * batch_size <= chunk * times
    assert chunk * times * 3 * height * width <= max(256 << 20, 3 * batch_size * 3 * height * width)
    full = (times + 1) * chunk * 3 * height * width > 256 << 20
    assert times >= min(count, 10) or full  # the cores have something to do


def test_large_images_are_limited_on_many_cores(trained, monkeypatch):
    """Each image has 3 MB, so a batch of 8 for each core would take 1.5 GB."""
    monkeypatch.setattr(predictor, "available_cores", lambda: 64)
    model, images_read = load(trained, device="cpu"), []
    monkeypatch.setattr(model, "preprocessing", Preprocessing(3, (1024, 1024), False, [0.5] * 3, [0.5] * 3))
    monkeypatch.setattr(model.task, "predict", lambda images, *_: ["light"] * len(images))
    stream = model.stream((images_read.append(1) or torch.zeros(3, 5, 5, dtype=torch.uint8) for _ in range(1000)), 8)
    assert next(stream)[1] == "light"
    assert len(images_read) * 3 <= 256 + 8 * 3


def test_batch_is_halved_if_memory_runs_out(trained, photos, monkeypatch):
    model, whole, sizes = load(trained), load(trained).task.predict, []

    def little(images, *rest):
        sizes.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("Tried to allocate 3.00 GiB")
        return whole(images, *rest)

    monkeypatch.setattr(model.task, "predict", little)
    paths = sorted(photos.iterdir())
    assert model.predict(paths) == [path.stem.split("_")[1] for path in paths]
    assert max(sizes) == 9
    monkeypatch.setattr(model.task, "predict", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("x")))
    with pytest.raises(UserError, match=r"one sample does not fit"):
        model.predict(paths)
