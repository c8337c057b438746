"""The images that a file is tried on: real ones, of the run's own test data, as decoded."""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from kit.checkpoints import checkpoint
from kit.checkpoints.building import build
from kit.data import ImageDataModule, Preprocessing, Samples
from kit.data.decode import decode
from kit.formats.folders import SPLITS
from kit.ground.errors import BrokenFiles, UserError

NOISE_TIMES = (1, 2, 3)


def images(
    file: Path, preprocessing: Preprocessing, count: int, trusted: Sequence[str] = ()
) -> tuple[list[Tensor], str]:
    """Up to `count` images, uint8 [C H W] of their own size, evenly spaced over the split that a report is about.

    Args:
        file: the checkpoint.
        trusted: as for `checkpoint.load`.

    Returns:
        the images, and what they are: `12 images of test`; noise where the data cannot be read, said on stderr
    """
    try:
        if not (checkpoint.run_of(file) / "config.yaml").is_file():  # a stranger's names what files he likes
            raise UserError(f"{file} lies in no run's folder: only a run's data are read")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which training and `check` have given
            data = _data(file, trusted)
        split, samples = data.evaluated, data.samples.get(data.evaluated)
        if not samples:
            raise UserError("neither test nor val has an image")
        several = min(count, len(samples))
        places = [number * len(samples) // several for number in range(several)]
        found = [image for place in places if (image := _decoded(data, samples, place, preprocessing)) is not None]
        if not found:
            raise UserError(f"no image of {split} can be decoded")
    except (UserError, OSError) as error:  # they may be gone, or another machine's: the model is exported without them
        why = (str(error).splitlines() or [type(error).__name__])[0]
        print(f"warning: tried on noise, since the run's data cannot be read ({why})", file=sys.stderr, flush=True)
        return noise(preprocessing), f"{len(NOISE_TIMES)} images of noise"
    return found, f"{len(found)} image{'s' * (len(found) > 1)} of {split}"


def noise(preprocessing: Preprocessing) -> list[Tensor]:
    """Smooth, as photographs are, but without their clear answers.

    Of once, twice and three times the size that the net gets: reduced so, no pixel lies near a half, where rounding
    would differ, of which masks and boxes in noise make more than in photographs.
    """
    generator = torch.Generator().manual_seed(0)
    own = preprocessing.size or (96, 128)
    made = []
    for times in NOISE_TIMES:
        height, width = times * own[0], times * own[1]
        coarse = torch.randn(1, preprocessing.channels, height // 8 + 1, width // 8 + 1, generator=generator)
        field = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0]
        made.append((128 + 60 * field).clamp(0, 255).to(torch.uint8))
    return made


def _data(file: Path, trusted: Sequence[str]) -> Any:
    content, parts = checkpoint.load(file, trusted)
    arguments = parts["data"]["init_args"]
    if "download" in arguments:
        arguments["download"] = False
    with checkpoint.blamed(file, "names data that cannot be opened"):
        data = build(L.LightningDataModule, "data", parts["data"])
    if not isinstance(data, ImageDataModule):
        raise UserError(f"{type(data).__name__} is no ImageDataModule")
    data.load_state_dict(content[type(data).__qualname__])
    data.cache = "none"  # a few of many
    data.left_out = {split: {} for split in SPLITS}  # so that not every file is decoded
    data.setup("test")
    return data


def _decoded(data: Any, samples: Samples, place: int, preprocessing: Preprocessing) -> Tensor | None:
    """Return the image of a sample: decoded from its file if it has one, or None if that is broken; else as the net
    gets it."""
    file = samples.file(place)
    if file is not None and Path(file).is_file():
        try:
            return decode(Path(file), preprocessing.channels, None, levels=preprocessing.levels)
        except BrokenFiles:
            return None
    image, _ = data.sample(samples.read(place), samples.targets[place])
    return image.as_subclass(Tensor)
