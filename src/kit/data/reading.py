"""Read all images of a split: find the files that cannot be decoded, and cache decoded images."""

import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import PIL
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor
from tqdm import tqdm

from kit.data.samples import Files, Samples, Tensors
from kit.ground.errors import BrokenFiles, UnreachableFiles, UserError
from kit.ground.files import replacing
from kit.ground.threads import map_files, map_in_threads

MAX_BROKEN = 0.05  # the largest fraction of a split that may be broken; one is allowed unless it is the only image
MAX_NAMED = 10  # the number of files that a message names
MIN_SECONDS = 1.0  # a search that takes longer stores its result


def find_broken(samples: Files, folder: Path, split: str) -> dict[str, str]:
    """Return the problem of each file of a split that cannot be decoded, and print warnings.

    Args:
        folder: the folder that stores the results of long searches: see `find_problems`.

    Raises:
        BrokenFiles: too many files cannot be decoded.
        UnreachableFiles: the system cannot read a file.
    """
    broken = find_problems(samples, folder, split)
    stop_if_many(split, broken, len(samples))
    if broken:
        count = f"{len(broken):,} of {len(samples):,} images cannot be decoded and are left out"
        rank_zero_only(print)(f"warning: {split}: {count}:{_problem_lines(broken)}", file=sys.stderr, flush=True)
    return broken


def find_problems(samples: Files, folder: Path, split: str) -> dict[str, str]:
    """Decode every file once, and return the problem of each damaged file.

    This takes a third to a half of the time of reading the samples. If it takes more than a second, the result is
    stored in `folder` and used until one of the files or the settings of the samples change.

    Raises:
        UnreachableFiles: the system cannot read a file.
        UserError: see `Files.verify`.
    """

    def problem_of(index: int) -> str:
        try:
            samples.verify(index)
            return ""
        except UnreachableFiles:
            raise
        except BrokenFiles as error:
            return str(error).removeprefix(f"{samples.file(index)}: ")

    file = folder / f"{samples.files_digest(PIL.__version__, *samples.settings)}.broken.json"
    with suppress(OSError, ValueError, TypeError, RecursionError):  # no result is stored, or it is damaged
        return dict(json.loads(file.read_text(encoding="utf-8")))
    started, indices = time.monotonic(), range(len(samples))
    results = tqdm(map_files(problem_of, indices), f"checking {split} images", len(samples), leave=False, disable=None)
    problems = {samples.file(index): problem for index, problem in zip(indices, results, strict=True) if problem}
    if time.monotonic() - started > MIN_SECONDS:
        with suppress(UserError), replacing(file) as temporary:  # without the file, the next run searches again
            temporary.write_text(json.dumps(problems), encoding="utf-8")
    return problems


def stop_if_many(split: str, broken: Mapping[str, str], total: int) -> None:
    """Raise an error if too many images of a split are broken.

    Args:
        broken: the problem of each broken file.
        total: the number of images in the split.

    Raises:
        BrokenFiles: all images are broken, or more than one and more than `MAX_BROKEN` of them.
    """
    if len(broken) == total or len(broken) > max(1, MAX_BROKEN * total):
        problem = f"{len(broken):,} of {total:,} images of {split} cannot be decoded (allowed: {MAX_BROKEN:.0%})"
        raise BrokenFiles(f"{problem}; restore or remove them:{_problem_lines(broken)}")


def summary(left_out: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a line for each split in which files are left out. left_out: for each split, the problem of each file."""
    return [
        f"left out of {split}, because they cannot be decoded: {len(files):,} ({', '.join(_first_lines(list(files)))})"
        for split, files in left_out.items()
        if files
    ]


def _problem_lines(problems: Mapping[str, str]) -> str:
    """Return the first files and their problems, each after a line feed."""
    return "".join(f"\n  {line}" for line in _first_lines([f"{file}: {problem}" for file, problem in problems.items()]))


def _first_lines(lines: Sequence[str]) -> list[str]:
    """Return the first lines, and a line that says how many more there are."""
    more = len(lines) - MAX_NAMED
    return [*lines[:MAX_NAMED], *([f"and {more:,} more"] if more > 0 else [])]


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
            with replacing(file) as temporary:
                with temporary.open("wb") as stream:
                    if hasattr(os, "posix_fallocate"):  # Windows and macOS lack it
                        os.posix_fallocate(stream.fileno(), 0, size)  # a full disk would kill the process otherwise
                images = torch.from_file(str(temporary), shared=True, size=size, dtype=torch.uint8)
                _fill(images.view(shape), samples, description)
                with temporary.open("r+b") as stream:
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
