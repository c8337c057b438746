"""Find the images that an annotation file or a list names, and images that no file names."""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from kit.data.decode import EXTENSIONS
from kit.formats.folders import SPLITS, files_in, subfolder
from kit.formats.text import read_lines


class Finder:
    """Find files by their names in an annotation file or a list, which may have been written on another machine.

    A path is looked up in the folders first. If it is in none of them, the result is the file of the same name that
    shares the most parent folders with it, counted from the end: `cam0/1.png` for `/home/me/cam0/1.png`. A name without
    an image's extension matches files with any extension.

    Args:
        files: returns the files to choose from; called only if a path is in none of the folders.
        folders: the folders in which a path is looked up.
    """

    def __init__(self, files: Callable[[], Iterable[Path]], folders: Sequence[Path] = ()) -> None:
        self.files, self.folders = files, folders

    def __call__(self, written: str) -> Path | None:
        """Return the file for a written path, or None if no file or several files match."""
        # Label Studio writes the path after `?d=`. Any other `?` begins the query of a URL.
        name = PurePosixPath(written.rpartition("?d=")[2].split("?")[0].replace("\\", "/"))
        for folder in self.folders:
            if (path := folder / name).is_file():
                return path
        if name.suffix.lower() in EXTENSIONS:
            matches = [path for path in self._by_stem.get(name.stem, ()) if path.name == name.name]
        else:
            matches = self._by_stem.get(name.name, [])
        parents = [list(reversed(path.parent.parts)) for path in (name, *matches)]
        # `commonprefix` of two lists is the list of their common first items.
        lengths = [len(os.path.commonprefix([parents[0], others])) for others in parents[1:]]  # noqa: RUF071
        best = [path for path, length in zip(matches, lengths, strict=True) if length == max(lengths)]
        return best[0] if len(best) == 1 else None

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        by_stem: dict[str, list[Path]] = {}
        for path in self.files():
            by_stem.setdefault(path.stem, []).append(path)
        return by_stem


def first_file(folders: Iterable[Path], names: Sequence[str]) -> Path | None:
    """Return the first existing file with one of the names in one of the folders, or None."""
    return next((folder / name for folder in folders for name in names if (folder / name).is_file()), None)


def split_lists(root: Path, kind: str) -> dict[str, list[str]]:
    """Return the lines of Pascal VOC's image list for each split: `ImageSets/KIND/train.txt`.

    If there is no `train.txt`, `trainval.txt` or CVAT's `default.txt` lists the training images.
    """
    image_sets = subfolder(root, "imagesets")
    folder = subfolder(image_sets, kind)
    files = {path.stem.lower(): path for path in files_in(folder if folder.is_dir() else image_sets, {".txt"})}
    spellings = {**SPLITS, "train": (*SPLITS["train"], "trainval", "default")}
    chosen = {split: next((files[name] for name in names if name in files), None) for split, names in spellings.items()}
    return {split: lines for split, file in chosen.items() if file is not None and (lines := read_lines(file))}


def unlisted_images(listed: set[Path]) -> list[Path]:
    """Return the unlisted images in the folders of listed images, sorted."""
    folders = {image.parent for image in listed}
    return sorted({file for folder in folders for file in files_in(folder, EXTENSIONS)} - listed)
