"""Compare the outputs of an exported file with PyTorch's, on images of the run's test data or on noise."""

import math
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F

from kit.checkpoints import checkpoint
from kit.config.parser import build
from kit.data import ImageDataModule, Preprocessing, Samples
from kit.data.decode import decode
from kit.exporting.graph import Run
from kit.formats.folders import SPLITS
from kit.ground.errors import UserError, one_line
from kit.prediction import Predictor
from kit.task import ExportedModule

BATCH = 3  # a net that was recorded with one number of images may not accept another
NOISE_TIMES = (1, 2, 3)


class Case(NamedTuple):
    """An input of a file, and the output to expect.

    inputs: the file's inputs for one image, each with a batch dimension.
    expected: computes PyTorch's output.
    """

    inputs: tuple[Tensor, ...]
    expected: Callable[[], Any]


class Cases(NamedTuple):
    """Inputs that a file is tried on.

    single: cases that are run one by one.
    batch: cases that are run as one batch.
    description: what they are, as `12 images of test`.
    """

    single: list[Case]
    batch: list[Case]
    description: str


def read_images(
    file: Path, preprocessing: Preprocessing, count: int, trusted: Sequence[str] = ()
) -> tuple[list[Tensor], str]:
    """Return up to `count` images of the test split (or val), evenly spaced, uint8 [C H W] of their original size.

    If the data or one of these images cannot be read, return noise, and print a warning.

    Args:
        file: the checkpoint.
        trusted: see `checkpoint.load`.

    Returns:
        the images, and a description of them, as `12 images of test`
    """
    try:
        if not (checkpoint.run_folder_of(file) / "config.yaml").is_file():  # it may name any file
            raise UserError(f"{file} lies in no run's folder: only a run's data are read")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # training and `check` have shown them
            data = _data(file, trusted)
        samples = data.samples.get(data.evaluated_split)
        if not samples:
            raise UserError("neither test nor val has an image")
        indices = sorted({i * len(samples) // count for i in range(count)})
        images = [_original_image(data, samples, index, preprocessing) for index in indices]
    except (UserError, OSError) as error:  # the data may be gone, or on another machine
        why = one_line(error)
        print(f"warning: tried on noise, since the run's data cannot be read ({why})", file=sys.stderr, flush=True)
        return noise(preprocessing), f"{len(NOISE_TIMES)} images of noise"
    return images, f"{len(images)} image{'s' * (len(images) > 1)} of {data.evaluated_split}"


def noise(preprocessing: Preprocessing) -> list[Tensor]:
    """Return smooth noise, which resembles photographs.

    Its sizes are once, twice and three times the size of the net's input. When it is reduced by these factors, no pixel
    is near a half, where libraries round differently.
    """
    generator = torch.Generator().manual_seed(0)
    size = preprocessing.size or (96, 128)
    images = []
    for times in NOISE_TIMES:
        height, width = times * size[0], times * size[1]
        coarse = torch.randn(1, preprocessing.channels, height // 8 + 1, width // 8 + 1, generator=generator)
        smooth = F.interpolate(coarse, (height, width), mode="bicubic")[0]
        images.append((128 + 60 * smooth).clamp(0, 255).to(torch.uint8))
    return images


def _data(file: Path, trusted: Sequence[str]) -> Any:
    content, parts = checkpoint.load(file, trusted)
    with checkpoint.one_line_errors(file, "names data that cannot be opened"):
        data = build(L.LightningDataModule, "data", parts["data"])
    if not isinstance(data, ImageDataModule):
        raise UserError(f"{type(data).__name__} is no ImageDataModule")
    data.load_state_dict(content[type(data).__qualname__])
    data.cache = "none"  # only a few images are read
    data.left_out = {split: {} for split in SPLITS}  # so that not every file is decoded
    data.setup("test")
    return data


def _original_image(data: Any, samples: Samples, index: int, preprocessing: Preprocessing) -> Tensor:
    """Return a sample's image, decoded from its file; without a file, return it as the net gets it."""
    file = samples.file(index)
    if file is not None and Path(file).is_file():
        return decode(Path(file), preprocessing.channels, None, levels=preprocessing.levels)
    image, _ = data.sample(samples.read(index), samples.targets[index])
    return image.as_subclass(Tensor)


def image_cases(model: Predictor, images: Sequence[Tensor], description: str = "") -> Cases:
    """Return cases for images, uint8 [C H W], of any size."""
    single, batch = (
        [Case((as_input(image),), partial(predict_image, model, image)) for image in chosen]
        for chosen in (images, [images[0], images[0].flip(2), images[0].flip(1)])  # a batch needs images of one size
    )
    return Cases(single, batch, description)


def generation_cases(model: Predictor, exported: ExportedModule, count: int) -> Cases:
    """Return cases for a task that generates images."""
    examples = zip(*(tensor.split(1) for tensor in exported.example(model.preprocessing, count)), strict=True)
    cases = [Case(inputs, partial(exported.expected, model.task, *inputs)) for inputs in examples]
    return Cases(cases, cases[:BATCH], f"{count} samples")


def predict_image(model: Predictor, image: Tensor) -> Any:
    """Return the model's prediction for uint8 [C H W], without the threads of `model.predict`, which read files."""
    pixels, size = model.preprocessing.read(image)
    return model.predict_pixels(pixels[None], [size])[0]


def as_input(image: Tensor) -> Tensor:
    """Convert uint8 [C H W] to uint8 [1 H W C]."""
    return image.permute(1, 2, 0)[None].contiguous()


def compare(run: Run, exported: ExportedModule, cases: Cases) -> tuple[float, int]:
    """Compare a file's outputs with PyTorch's, for one image at a time and, if the file takes several, for a batch.

    Returns:
        the largest difference on any image, as the task measures it, and the number of objects that the task counts
        (see `ExportedModule.counted`)
    """
    differences, counts = [], []
    for batch in [*([case] for case in cases.single), *([] if exported.one_at_a_time else [cases.batch])]:
        outputs = run(*(torch.cat(tensors) for tensors in zip(*(case.inputs for case in batch), strict=True)))
        for index, case in enumerate(batch):
            predicted = case.expected()
            of_case = outputs if exported.one_at_a_time else {name: rows[index] for name, rows in outputs.items()}
            difference = exported.difference(of_case, predicted)
            differences.append(math.inf if math.isnan(difference) else difference)
            counts.append(exported.count(predicted))
    return max(differences), sum(counts[: len(cases.single)])
