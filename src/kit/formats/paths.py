"""Find the images that annotation files or lists name, and the images that none of them names."""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from kit.data.decode import EXTENSIONS
from kit.formats.folders import SPLIT_NAMES, files_in, subfolder
from kit.formats.text import read_lines
from kit.ground.files import is_file
from kit.ground.terminal import escape

# An accented letter in a file name is one character on most systems (composed), and two on macOS (decomposed).
compose, decompose = partial(unicodedata.normalize, "NFC"), partial(unicodedata.normalize, "NFD")


class Finder:
    """Find files by their names in an annotation file or a list, which may have been written on another machine.

    These are tried in this order:

    1. The path as it is written, in each of the folders.
    2. The path with `/` for `\\` and without percent-encoding, or the path in a URL of Label Studio or others.
    3. The same path with composed or decomposed accents (Unicode's NFC or NFD).
    4. The shortest end of the path that only one of `files` has. For `/home/me/cam0/1.png`, this may be `cam0/1.png`.
    5. The shortest such end without regard to upper and lower case.

    In 4 and 5, a name without an image's extension matches files with any extension. A file does not match if another
    path names it as in 1, or if a longer end of it equals the end of another written path: the image is missing.

    Args:
        files: returns all files that a path may mean. It is called only if a path is in none of `folders`.
        folders: the folders that paths may be relative to.
        written_paths: all paths in the annotation file or list.
    """

    def __init__(
        self, files: Callable[[], Sequence[Path]], folders: Sequence[Path] = (), written_paths: Sequence[str] = ()
    ) -> None:
        self.files, self.folders, self._by_end = cache(files), folders, cache(self._files_by_end)
        self._exact_paths = cache(lambda: {folder / path for folder in folders for path in written_paths})
        self._written_ends = cache(lambda depth: {_reversed_parts(path)[:depth] for path in written_paths})
        self._other_paths: dict[str, Path] = {}  # from a written path to the file that was found at another path

    def __call__(self, written_path: str) -> Path | None:
        """Return the file that a written path means, or None if no file or several files match."""
        for folder in self.folders:
            if is_file(path := folder / written_path):
                return path
        slashed = written_path.replace("\\", "/")
        # Label Studio writes the path after `?d=`. Any other `?` begins the query of a URL.
        path_of_url = slashed.rpartition("?d=")[2].partition("?")[0]
        decoded = [unquote(path).replace("\\", "/") for path in (slashed, path_of_url)]
        spellings = dict.fromkeys([written_path, slashed, decoded[0], path_of_url, decoded[1]])
        names = dict.fromkeys(form(name) for form in (str, compose, decompose) for name in spellings)
        in_folders = (folder / name for name in names for folder in self.folders)
        by_end = (self._find_by_end(name, form) for form in (compose, fold_case) for name in spellings)
        file = next(filter(is_file, in_folders), None)
        if file is None and (file := next(filter(None, by_end), None)) and self._is_of_another_path(file, spellings):
            return None
        if file and not any(str(path).endswith(written_path) for path in (file, file.with_suffix(""))):
            self._other_paths[written_path] = file
        return file

    def report_other_paths(self, source: Path) -> None:
        """Print how many files were found at another path than the one in the file `source`, with an example."""
        if self._other_paths:
            written_path, path = next(iter(self._other_paths.items()))
            count = f"{source}: {len(self._other_paths):,} images were found at another path"
            rank_zero_only(print)(escape(f"{count}, such as {path} for '{written_path}'"))

    def _is_of_another_path(self, file: Path, spellings: Iterable[str]) -> bool:
        """Return whether another written path names a file, or has a longer end in common with it than `spellings`."""
        if file in self._exact_paths():
            return True
        ends = [_reversed_parts(str(path)) for path in (file, file.with_suffix(""))]
        depth = 1 + max(_common_length(end, _reversed_parts(path)) for end in ends for path in spellings)
        return any(end[:depth] in self._written_ends(depth) for end in ends)

    def _find_by_end(self, written_path: str, form: Callable[[str], str]) -> Path | None:
        """Return the file for the shortest unique end of a path, or None. `form` normalises the ends."""
        parts, has_extension = Path(form(written_path)).parts, Path(written_path).suffix.lower() in EXTENSIONS
        for depth in range(1, len(parts) + 1):
            files, end = self._by_end(depth, has_extension, form), "/".join(parts[-depth:])
            if end not in files or files[end]:
                return files.get(end)
        return None

    def _files_by_end(self, depth: int, has_extension: bool, form: Callable[[str], str]) -> dict[str, Path | None]:
        """Return a dictionary from the ends of paths to files. The value is None if several files have this end.

        Args:
            depth: the number of names in an end, such as 2 for `cam0/1.png`.
            has_extension: whether the ends include the extension.
            form: the function that normalises the ends, such as `fold_case`.
        """
        files: dict[str, Path | None] = {}
        for path in self.files():
            end = form("/".join((path if has_extension else path.with_suffix("")).parts[-depth:]))
            files[end] = path if files.get(end, path) == path else None
        return files


def fold_case(text: str) -> str:
    """Return a text in lower case, with composed accents."""
    return compose(text.lower())


def _reversed_parts(path: str) -> tuple[str, ...]:
    """Return the names in a path from the last to the first, in lower case and without percent-encoding."""
    return Path(fold_case(unquote(path).replace("\\", "/"))).parts[::-1]


def _common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Return how many texts at the start of both sequences are equal."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


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
    spellings = {**SPLIT_NAMES, "train": (*SPLIT_NAMES["train"], "trainval", "default")}
    chosen = {split: next((files[name] for name in names if name in files), None) for split, names in spellings.items()}
    lists = {split: [line for _, line in read_lines(file)] for split, file in chosen.items() if file is not None}
    return {split: lines for split, lines in lists.items() if lines}


def unlisted_images(listed: set[Path]) -> list[Path]:
    """Return the unlisted images in the folders of listed images, sorted."""
    folders = {image.parent for image in listed}
    return sorted({file for folder in folders for file in files_in(folder, EXTENSIONS)} - listed)
