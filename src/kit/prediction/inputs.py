"""Find the images that a command line names, and name their results."""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kit.formats.folders import images
from kit.ground.errors import UserError


def find_images(words: Sequence[str], results: Sequence[Path] = ()) -> list[Path]:
    """Return the images that words of a command line name, each once.

    Args:
        words: files, folders (with the folders in them) and patterns such as `'photos/**/*.jpg'`.
        results: folders of results. Images in them are left out, so that results are not used as images.

    Raises:
        UserError: a word names no file, or all files are results.
    """
    by_path: dict[Path, Path] = {}
    for word in words:
        path = Path(word)
        if path.is_dir():
            files = images(path)
        elif path.exists():
            files = [path]
        else:
            files = sorted(path for path in map(Path, glob.glob(word, recursive=True)) if path.is_file())  # noqa: PTH207
        if not files:
            what = "there is no image in this folder" if path.is_dir() else "no such file, folder or pattern"
            raise UserError(f"{word}: {what}")
        for file in files:
            by_path.setdefault(_absolute(file), file)
    folders = [folder.resolve() for folder in results if folder.is_dir()]
    others = [file for path, file in by_path.items() if not any(folder in path.resolve().parents for folder in folders)]
    if not others:
        raise UserError(f"{' '.join(words)} lies where results are written; give another folder with --out")
    return others


def output_names(files: Sequence[Path]) -> list[str]:
    """Return a unique name for each file's results: its path below the folder that all files share.

    The extension is left out if the name is unique without it. No name is absolute or has `..`, so that none leads out
    of the folder that it is used in.
    """
    full = [_absolute(file) for file in files]
    common = Path(os.path.commonpath([file.parent for file in full]))
    paths = [file.relative_to(common).as_posix() for file in full]
    stems = [str(Path(name).with_suffix("").as_posix()) for name in paths]
    counts = Counter([*stems, *paths])  # with the paths, since `a.png.bmp` may not become `a.png` if that exists
    return [path if counts[stem] > 1 else stem for path, stem in zip(paths, stems, strict=True)]


def _absolute(file: Path) -> Path:
    """Return an absolute path without `..`. Behind a link, only the file system can resolve `..`."""
    return file.parent.resolve() / file.name if ".." in file.parts else file.absolute()
