"""Find the images that a command line names, and name their results."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kit.formats.folders import images
from kit.ground.errors import UserError


def find_images(words: Sequence[str], results: Sequence[Path] = ()) -> list[Path]:
    """Return the images that the words of a command line name, without duplicates.

    Args:
        words: files, and folders, which are searched recursively.
        results: folders that the command writes to. Images in these folders are left out.

    Raises:
        UserError: a word names no image, or all images are in `results`.
    """
    by_path: dict[Path, Path] = {}  # absolute path to the path as it was found
    for word in words:
        path = Path(word)
        if not path.exists():
            raise UserError(f"{word}: no such file or folder")
        files = images(path) if path.is_dir() else [path]
        if not files:
            raise UserError(f"{word}: there is no image in this folder")
        for file in files:
            by_path.setdefault(_absolute(file), file)
    folders = [folder.resolve() for folder in results if folder.is_dir()]
    inputs = [file for path, file in by_path.items() if not any(folder in path.resolve().parents for folder in folders)]
    if not inputs:
        raise UserError(f"{' '.join(words)} is in the folder for results; choose another folder with --out")
    return inputs


def output_names(files: Sequence[Path]) -> list[str]:
    """Return a unique name for each file's results: its path relative to the common folder of all files.

    The extension is left out if the name is unique without it. No name is absolute or contains `..`, so results stay in
    the folder for results.
    """
    absolute_paths = [_absolute(file) for file in files]
    common = Path(os.path.commonpath([path.parent for path in absolute_paths]))
    paths = [path.relative_to(common).as_posix() for path in absolute_paths]
    stems = [str(Path(name).with_suffix("").as_posix()) for name in paths]
    counts = Counter([*stems, *paths])  # `a.png.bmp` without its extension is `a.png`, which may also exist
    return [path if counts[stem] > 1 else stem for path, stem in zip(paths, stems, strict=True)]


def _absolute(file: Path) -> Path:
    """Return an absolute path without `..`. Links are resolved only if `..` may follow one."""
    return file.parent.resolve() / file.name if ".." in file.parts else file.absolute()
