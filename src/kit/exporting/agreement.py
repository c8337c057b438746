"""Compare the outputs of an exported file with PyTorch's, on images of the run's data or on noise."""

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
from kit.data.contents import SPLITS
from kit.data.datamodule import evaluated_split
from kit.data.decode import decode
from kit.exporting.graph import Run
from kit.ground.errors import UserError, one_line
from kit.ground.unexpected import doing
from kit.prediction import Predictor
from kit.task import ExportedModule

BATCH = 3  # the number of images in a batch: not 2 as in tracing, since the graph must accept any number
NUM_NOISE = 3  # the number of images of noise


class Cases(NamedTuple):
    """The cases for which an exported file is compared with PyTorch.

    A case has the file's inputs for one image. Each input has a batch dimension of 1.

    single: cases that are run one by one.
    batch: cases that are run as one batch.
    expected: a function that maps the inputs of a case to PyTorch's output.
    description: a text such as `12 images of test`.
    """

    single: Sequence[tuple[Tensor, ...]]
    batch: Sequence[tuple[Tensor, ...]]
    expected: Callable[..., Any]
    description: str


def read_images(
    file: Path, preprocessing: Preprocessing, count: int, trusted: Sequence[str] = ()
) -> tuple[list[Tensor], str]:
    """Return up to `count` evenly spaced images of the test split or, if there is none, of val.

    If `UserError` or `OSError` says that the data or one of these images cannot be read, return noise, and print a
    warning. Other exceptions, such as those of a bug in the data module, are raised.

    Args:
        file: the checkpoint.
        preprocessing: the preprocessing of the checkpoint.
        count: the largest number of images.
        trusted: see `checkpoint.load`.

    Returns:
        the images, uint8 [C H W], in their original sizes; and a description such as `12 images of test`.
    """
    try:
        # A checkpoint outside of a run's folder may come from somebody else, and its config could name any file.
        if not (checkpoint.run_folder_of(file) / "config.yaml").is_file():
            raise UserError(f"{file} is not in a run's folder, and only a run's data are read")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # training has shown the warnings about these data
            data = _load_data(file, trusted)
        split = evaluated_split(data)
        samples = data.samples.get(split)
        if not samples:
            raise UserError("neither test nor val has an image")
        indices = sorted({i * len(samples) // count for i in range(count)})
        images = [_original_image(data, samples, index, preprocessing) for index in indices]
    except (UserError, OSError) as error:  # the data may be gone, or on another machine
        why = one_line(error)
        print(f"warning: compared on noise, since the run's data cannot be read ({why})", file=sys.stderr, flush=True)
        return noise(preprocessing), f"{NUM_NOISE} images of noise"
    return images, f"{len(images)} image{'s' * (len(images) > 1)} of {split}"


def noise(preprocessing: Preprocessing) -> list[Tensor]:
    """Return images of smooth noise, which resembles photographs, uint8 [C H W], twice as large as the net's input."""
    height, width = (2 * side for side in preprocessing.size or (96, 128))
    shape = NUM_NOISE, preprocessing.channels, height // 8 + 1, width // 8 + 1
    coarse = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(coarse, (height, width), mode="bicubic")
    return list((128 + 60 * smooth).clamp(0, 255).to(torch.uint8))


def _load_data(file: Path, trusted: Sequence[str]) -> Any:
    """Return the data module of a checkpoint, after `setup`."""
    content, parts = checkpoint.load(file, trusted)
    with doing(f"opening the data that {file} names"):
        data = build(L.LightningDataModule, "data", parts["data"])
    if not isinstance(data, ImageDataModule):
        raise UserError(f"{type(data).__name__} is not an ImageDataModule")
    data.load_state_dict(checkpoint.data_state(content, parts))
    data.cache = "none"  # only a few images are read
    data.left_out = {split: {} for split in SPLITS}  # setup would decode all files to find broken ones
    data.setup("test")
    return data


def _original_image(data: Any, samples: Samples, index: int, preprocessing: Preprocessing) -> Tensor:
    """Return a sample's image, uint8 [C H W], in its original size or, without a file, as the data module gives it."""
    file = samples.file(index)
    if file is not None and Path(file).is_file():
        return decode(Path(file), preprocessing.channels, None, levels=preprocessing.levels)
    image, _ = data.sample(samples.read(index), samples.targets[index])
    return image.as_subclass(Tensor)


def image_cases(model: Predictor, images: Sequence[Tensor], description: str = "") -> Cases:
    """Return cases for images, uint8 [C H W], of any size."""
    groups = images, [images[0], images[0].flip(2), images[0].flip(1)]  # a batch needs images of one size
    single, batch = ([(as_input(image),) for image in group] for group in groups)

    def expected(image: Tensor) -> Any:
        """Return the prediction for an image, uint8 [1 H W C]. Unlike `model.predict`, this starts no threads."""
        pixels, size = model.preprocessing.read(image[0].permute(2, 0, 1))
        return model.predict_pixels(pixels[None], [size])[0]

    return Cases(single, batch, expected, description)


def generation_cases(model: Predictor, exported: ExportedModule, count: int) -> Cases:
    """Return cases for a task that generates images."""
    inputs = list(zip(*(tensor.split(1) for tensor in exported.example(model.preprocessing, count)), strict=True))
    return Cases(inputs, inputs[:BATCH], partial(exported.expected, model.task), f"{count} samples")


def as_input(image: Tensor) -> Tensor:
    """Convert uint8 [C H W] to uint8 [1 H W C]."""
    return image.permute(1, 2, 0)[None].contiguous()


def compare(run: Run, exported: ExportedModule, cases: Cases) -> tuple[float, int]:
    """Compare a file's outputs with PyTorch's: image by image, and also for a batch if the file takes batches.

    Returns:
        the largest `ExportedModule.difference` of all cases; and the number of objects in `cases.single`, see
        `ExportedModule.count`.
    """
    differences, counts = [], []
    for batch in [*([case] for case in cases.single), *([] if exported.one_at_a_time else [cases.batch])]:
        outputs = run(*map(torch.cat, zip(*batch, strict=True)))
        for index, inputs in enumerate(batch):
            predicted = cases.expected(*inputs)
            output = outputs if exported.one_at_a_time else {name: rows[index] for name, rows in outputs.items()}
            difference = exported.difference(output, predicted)
            differences.append(math.inf if math.isnan(difference) else difference)
            counts.append(exported.count(predicted))
    return max(differences), sum(counts[: len(cases.single)])
