"""Files make the same images, and paint the same pictures, as PyTorch."""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import difference, written
from PIL import Image
from readme_programs import printed, program

from kit.data import Preprocessing
from kit.exporting import export
from kit.exporting.graph import open_onnx
from kit.ground.errors import UserError
from kit.samples.images import noise
from project.generation import Euler, Generator, Heun, UNet

CONFIG = str(Path(__file__).parents[3] / "configs" / "generation.yaml")
SIZES = [(37, 51), (64, 96), (70, 45), (9, 30)]
WAYS = {
    "euler": {"solver": Euler(3)},
    "heun": {"solver": Heun(2)},
    "churn": {"solver": Heun(3, churn=0.4)},
    "guided": {"solver": Euler(2), "guidance": 2.5},
}


def how(channels: int, size: tuple[int, int] | None) -> Preprocessing:
    return Preprocessing(channels, size, False, [0.5] * channels, [0.5] * channels)


def generator(channels: int = 2, patch: int = 1, **options) -> Generator:
    """No weight is zero any more, so that what it makes is no noise."""
    torch.manual_seed(0)
    task = Generator(
        partial(UNet, widths=[8, 16], patch=patch), 3, channels, class_names=["cat", "dog", "owl"], **options
    )
    for parameter in task.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, 0, 0.1)
    return task


DEAR = [pytest.param(*case, marks=pytest.mark.slow) for case in (("guided", 1), ("heun", 2), ("churn", 1))]


@pytest.mark.parametrize(("way", "patch"), [("euler", 1), *DEAR])
def test_exported_generator(way, patch):
    assert difference(generator(patch=patch, **WAYS[way]), how(2, (7, 10))) <= 1


@pytest.mark.slow
def test_noise_classes_and_guidance_change_the_output():
    task, start = generator(**WAYS["guided"]), noise(range(4), (1, 2, 8, 6))
    _, _, file = written(task, how(2, (8, 6)))
    run, classes = open_onnx(file), torch.tensor([0, 1, 2, 3])
    (made,) = run(start, classes).values()
    assert made.shape == (4, 8, 6, 2) and made.dtype == torch.uint8 and made.float().std() > 10
    assert (
        made.permute(0, 3, 1, 2).int() - task.make_sampler().images(start, classes, task.device).int()
    ).abs().max() <= 1
    for other in (run(start.flip(0), classes), run(start, classes.flip(0))):
        assert not torch.equal(other["images"], made)
    given = start, classes, task.device
    assert not torch.equal(task.make_sampler(1).images(*given), task.make_sampler().images(*given))


def test_difference_of_images():
    exported = generator().exported()
    image = torch.full((2, 3, 4), 100, dtype=torch.uint8)
    other = image.permute(1, 2, 0).clone()
    other[1, 2, 0] -= 7
    assert exported.difference({"images": other}, image) == 7
    assert exported.difference({"images": other[1:]}, image) == float("inf")


def test_several_image_sizes_are_refused():
    with pytest.raises(UserError, match="the training images had several sizes"):
        generator().exported().example(how(2, None), 3)


@pytest.mark.slow
def test_program_of_the_docs_generates_images():
    _, _, file = written(generator(1, **WAYS["euler"]), how(1, (8, 6)))
    making = program("generation.md")
    fewer = making.replace("[3, 3, 7]", "[2, 2, 1]")
    assert fewer != making and printed(fewer, file) == []
    start = np.random.default_rng(0).standard_normal((3, 1, 1, 8, 6), np.float32)
    task = generator(1, **WAYS["euler"])
    made = task.make_sampler().images(torch.from_numpy(start), torch.tensor([2, 2, 1]), task.device)
    for place, image in enumerate(made):
        assert abs(np.asarray(Image.open(f"sample{place}.png")).astype(int) - image[0].numpy()).max() <= 1


def test_export_of_a_run(fit, monkeypatch, capsys):
    monkeypatch.setattr("kit.samples.judge.MIN_STEPS", 5)
    run = fit("--config", CONFIG, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2",
              "--trainer.limit_test_batches", "1", "--model.net.widths", "[8]", "--model.samples", "10",
              "--model.solver.steps", "1")  # fmt: skip
    capsys.readouterr()
    export([str(run)])
    said = capsys.readouterr()
    assert said.err == "" and said.out.startswith(f"{run}/exports/model.onnx: ")
    assert re.search(r"largest difference of a pixel \(0 to 255\) [01], 1 allowed, on 16 samples\n", said.out)
    images = open_onnx(run / "exports/model.onnx")(noise([5], (1, 1, 8, 8)), torch.tensor([3]))["images"]
    assert images.shape == (1, 8, 8, 1)


def test_file_that_does_not_agree_is_refused(monkeypatch):
    """Steps that are not the run's."""
    task = generator(**WAYS["euler"])
    exported = task.exported()
    exported.net.solver = Euler(1)
    monkeypatch.setattr(task, "exported", lambda: exported)
    assert difference(task, how(2, (8, 8))) > 1


def test_metadata_of_the_file():
    import onnx

    _, _, file = written(generator(**WAYS["euler"]), how(2, (8, 6)))
    about = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert about["task"] == "generation" and json.loads(about["class_names"]) == ["cat", "dog", "owl"]
    assert json.loads(about["preprocessing"])["size"] == [8, 6] and json.loads(about["outputs"]) == ["images"]
    assert Path("model.onnx").stat().st_size < 1_000_000
