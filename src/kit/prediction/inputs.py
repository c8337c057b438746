"""Which images are meant on the command line, and what their results are called."""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from kit.formats.folders import images
from kit.ground.errors import UserError


def find(given: Sequence[str], results: Sequence[Path] = ()) -> list[Path]:
    """The files that files, folders (with those below) and patterns (`'photos/**/*.jpg'`) mean, each once.

    Args:
        results: folders of results, in which nothing is looked for: else the next call would take them for images.

    Raises:
        UserError: one of them means no file, or none but results.
    """
    there = [folder.resolve() for folder in results if folder.is_dir()]
    found: dict[Path, Path] = {}

    @cache
    def among_results(folder: Path) -> bool:
        return any(folder.resolve().is_relative_to(other) for other in there)

    for word in given:
        path = Path(word)
        if path.is_dir():
            some = images(path)
        elif path.exists():
            some = [path]
        else:
            some = sorted(path for path in map(Path, glob.glob(word, recursive=True)) if path.is_file())  # noqa: PTH207
        if not some:
            what = "there is no image in this folder" if path.is_dir() else "no such file, folder or pattern"
            raise UserError(f"{word}: {what}")
        kept = [file for file in some if not among_results(file.parent)]
        if not kept:
            raise UserError(f"{word} lies where results are written; give another folder with --out")
        for file in kept:
            found.setdefault(_place(file), file)
    return list(found.values())


def names(files: Sequence[Path]) -> list[str]:
    """For each file its path below the folder that all have in common, without its ending where that is unambiguous.

    No name leads out of the folder to which it is appended: none has `..`, none is absolute.
    """
    full = [_place(file) for file in files]
    common = Path(os.path.commonpath([file.parent for file in full]))
    below = [file.relative_to(common).as_posix() for file in full]
    short = [str(Path(name).with_suffix("").as_posix()) for name in below]
    often = Counter([*short, *below])  # `a.png.bmp` may not become the `a.png` that stands beside `a.jpg`
    return [name if often[stem] > 1 else stem for name, stem in zip(below, short, strict=True)]


def _place(file: Path) -> Path:
    """Absolute, without `..`: what that means behind a link, only the disk knows."""
    return file.parent.resolve() / file.name if ".." in file.parts else file.absolute()
