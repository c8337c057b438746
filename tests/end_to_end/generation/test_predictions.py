"""Samples from the command line, by the run folder alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import project
from kit.ground.errors import UserError
from kit.prediction import predict
from kit.samples.predictions import SampleFiles, columns

CONFIG = str(Path(__file__).parents[3] / "configs" / "generation.yaml")


@pytest.fixture(scope="module")
def run(once):
    """Made once: nothing here changes it."""
    return once("generation_samples", make) / "runs" / "generation" / "version_0"


def make():
    from kit.cli import process, verbs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kit.samples.judge.MIN_STEPS", 5)
        process.quiet()
        verbs.fit(["--config", CONFIG, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "20",
                   "--trainer.limit_test_batches", "1", "--trainer.callbacks", "[]", "--model.net.widths", "[8]",
                   "--model.optimizer.lr", "0.01", "--model.samples", "10", "--model.solver.steps", "3"])  # fmt: skip


def files(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder, "samples").iterdir())}


def test_grid_and_files(run, capsys):
    predict([str(run), "--num_samples", "7", "--classes", "3,7", "--seed", "1", "--out", "out"])
    assert "made: out/grid.png, out/samples" in capsys.readouterr().out
    names = [f"0000{place}_{(3, 7)[place % 2]}.png" for place in range(7)]
    assert list(files("out")) == names
    pixels = np.array(Image.open("out/samples/00004_3.png"))
    assert pixels.shape == (8, 8) and pixels.dtype == np.uint8 and pixels.std() > 0
    grid = np.array(Image.open("out/grid.png"))  # two columns, four rows, each pixel enlarged to 4x4, gaps of 4
    assert grid.shape == (4 * 32 + 3 * 4, 2 * 32 + 4, 3)
    assert (grid[2 * 36 : 2 * 36 + 32 : 4, 0:32:4, 0] == pixels).all()
    Path("out/samples/mine.png").touch()
    predict([str(run), "--num_samples", "2", "--seed", "1", "--out", "out"])  # other samples: the earlier ones are gone
    assert list(files("out")) == ["00000_0.png", "00001_1.png", "mine.png"]


@pytest.mark.parametrize(
    ("count", "classes", "wanted"),
    [(100, 10, 10), (100, 2, 10), (100, 3, 9), (7, 10, 10), (100, 1, 10), (1000, 1, 20), (900, 7, 14), (900, 30, 20)],
)
def test_number_of_columns_of_the_grid(count, classes, wanted):
    assert columns(count, classes) == wanted


def test_seed_gives_the_same_files_with_any_batch_size(run):
    others = {"a": [], "b": ["--batch_size", "3"], "c": ["--seed", "9" * 20], "d": ["--num_samples", "4"]}
    for name, words in others.items():
        predict([str(run), "--num_samples", "12", "--seed", "4", "--out", name, *words])
    assert files("a") == files("b") and len(files("a")) == 12
    assert not set(files("a").values()) & set(files("c").values())
    assert files("d").items() <= files("a").items()


def test_options_of_the_solver(run):
    others = {
        "a": [],
        "b": ["--steps", "1"],
        "c": ["--solver", "euler"],
        "d": ["--guidance", "3"],
        "f": ["--churn", "1"],
    }
    for name, words in others.items():
        predict([str(run), "--num_samples", "5", "--out", name, *words])
    predict([str(run), "--num_samples", "5", "--out", "e", "--solver", "heun", "--steps", "3", "--guidance", "1"])
    assert files("a") == files("e")
    assert len({content for name in others for content in [files(name)["00002_2.png"]]}) == 5


def test_default_is_a_hundred_samples_of_all_classes(run):
    predict([str(run), "--steps", "1"])
    names = [path.stem for path in sorted((run / "predictions" / "samples").iterdir())]
    assert names == [f"{place:05}_{place % 10}" for place in range(100)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--classes", "3,11"], "--classes: the model has no class '11'; did you mean '1'?; it has 0, 1, 2,"),
        (["--num_samples", "0"], "num_samples is "),
        (["--num_samples", "-3"], "num_samples is "),
        (["--steps", "0"], "steps is "),
        (["--churn", "-1"], "churn is "),
        (["--guidance", ".nan"], "guidance is "),
        (["--classes", "3,,7"], "the model has no class ''"),
        (["--batch_size", "0"], "batch_size is "),
        (["--solver", "rk4"], "solver is 'rk4', but must be euler or heun or null"),
        (["--num_sample", "3"], "did you mean --num_samples 3?"),
        (["some.jpg"], "some.jpg"),
    ],
)
def test_mistakes(run, words, message):
    with pytest.raises(UserError) as caught:
        predict([str(run), *words])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_samples_from_python(run):
    model = project.load(run)
    predict([str(run), "--num_samples", "3", "--seed", "0", "--out", "out"])
    import torch

    made = model.task.sample(torch.arange(3), range(3), model.preprocessing.size)
    for image, path in zip(made, sorted(Path("out/samples").iterdir()), strict=True):
        assert (image[0].numpy() == np.array(Image.open(path))).all()
    with pytest.raises(UserError, match="Generator takes no images"):
        model.predict(["a.jpg"])


def test_class_by_its_first_word():
    names = ["3 - three", "33 - many", "7 up", "7 down"]
    assert SampleFiles(Path("out"), names, classes="33, 3,7 up").classes == [1, 0, 2]
    with pytest.raises(UserError, match="'7' fits several classes"):
        SampleFiles(Path("out"), names, classes="7")
    names = ["bus", "cat, small", "cat", "small, red"]
    assert SampleFiles(Path("out"), names, classes="cat, small").classes == [1]
    assert SampleFiles(Path("out"), names, classes="bus,cat, small,cat,small, red").classes == [0, 1, 2, 3]
