"""Which images are meant on the command line, and what their results are called."""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from project import UserError
from project.pipeline.folders import images


def find(given: Sequence[str]) -> list[Path]:
    """The files that files, folders (with those below) and patterns (`'photos/**/*.jpg'`) mean, each once.

    Raises:
        UserError: one of them means no file.
    """
    found: list[Path] = []
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
        found += some
    return list(dict.fromkeys(found))


def names(files: Sequence[Path]) -> list[str]:
    """For each file its path below the folder that all have in common, without its ending where that is unambiguous."""
    full = [file.absolute() for file in files]
    common = Path(os.path.commonpath([file.parent for file in full]))
    below = [file.relative_to(common).as_posix() for file in full]
    short = [str(Path(name).with_suffix("").as_posix()) for name in below]
    often = Counter(short)
    return [name if often[stem] > 1 else stem for name, stem in zip(below, short, strict=True)]
