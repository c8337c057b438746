"""Cache decoded and resized images as one uint8 tensor in memory or one memory-mapped file on disk."""

import math
import os
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from kit.data.samples import Files, Samples, Tensors
from kit.ground.errors import UserError
from kit.ground.files import replacing
from kit.ground.threads import map_in_threads


def cache_images(samples: Samples, folder: Path | None = None, description: str = "images") -> Tensors:
    """Read all images into memory, or into a memory-mapped file in `folder`.

    The file is reused while no image file changes. If its length is wrong, it is written again.

    Args:
        description: a noun for the images, shown at the progress bar.

    Raises:
        UserError: `folder` is given but `samples` are no image files, or the cache file cannot be written.
    """
    paths = samples.paths if isinstance(samples, Files) else None
    channels, height, width = samples.shape
    shape = len(samples), height, width, channels  # decoded files have this layout
    if folder is None:
        images = torch.empty(shape, dtype=torch.uint8)
        _fill(images, samples, description)
    elif not isinstance(samples, Files):
        raise UserError("data.cache disk needs image files; use ram, or none")
    else:
        size = math.prod(shape)
        file = folder / f"{samples.files_digest(shape, *samples.settings)}.uint8"
        if not file.is_file() or file.stat().st_size != size:
            with replacing(file) as part:
                with part.open("wb") as stream:
                    if hasattr(os, "posix_fallocate"):  # Windows and macOS lack it
                        os.posix_fallocate(stream.fileno(), 0, size)  # a full disk would kill the process otherwise
                images = torch.from_file(str(part), shared=True, size=size, dtype=torch.uint8)
                _fill(images.view(shape), samples, description)
                with part.open("r+b") as stream:
                    os.fsync(stream)  # a power failure after the renaming could leave zeros otherwise
        images = torch.from_file(str(file), shared=False, size=size, dtype=torch.uint8).view(shape)
    return Tensors(samples.targets, images.permute(0, 3, 1, 2), paths, groups=samples.groups)


def _fill(images: Tensor, samples: Samples, description: str) -> None:
    """Read all images of `samples` into `images`, uint8 [N H W C]."""

    def read(index: int) -> None:
        images[index] = samples.read(index).permute(1, 2, 0)

    indices = range(len(samples))
    # Data sets of other libraries may not be thread-safe.
    done = map_in_threads(read, indices) if isinstance(samples, Files) else map(read, indices)
    for _ in tqdm(done, f"reading {description}", len(samples), leave=False, disable=None):
        pass
