"""Find COCO's JSON file of each split among other JSON files."""

import re
import warnings
from pathlib import Path

from kit.formats.folders import SPLIT_NAMES, files_in, folders, folders_by_split, split_in
from kit.formats.recognition import SAMPLED_FILES, Evidence
from kit.ground.errors import UserError
from kit.ground.files import read_ends

SEARCHED_BYTES = 2**20  # the number of bytes that are searched at each end of a file
LISTS = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')  # most other JSON files have none of these lists
LABELME = "convert LabelMe's files with the package labelme2coco"
SHAPES = re.compile(rb'"segmentation"\s*:\s*(\{|\[\s*[\[\d])')  # matches run lengths or a polygon
# JSON files whose names begin with one of these are ignored, since they do not list instances.
NOT_INSTANCES = ("captions", "image_info", "panoptic", "notes", ".")


def find(root: Path, files_of_splits: dict[str, str | None]) -> dict[str, Path]:
    """Return the JSON file of each split.

    `root`, its folders `annotations`, `annotation` and `labels`, and the folders of the splits are searched. A file is
    for the split that the name of its folder, or else its own name, contains. If neither contains a split, the file is
    for train; but if train has other files, the file is left out with a warning. If a split has several files, only
    those in COCO's format whose names begin with `instances` or `_annotations` count. If there are none, all files in
    COCO's format count, but more than `SAMPLED_FILES` files are not read. Exactly one file must remain.

    Args:
        root: the folder of the data set.
        files_of_splits: the path below `root` that the user gave for each split, or None. If a path is given
            for any split, nothing is searched.

    Raises:
        UserError: there is no file, a given file does not exist, or several files fit a split.
    """
    given_files = {split: root / name for split, name in files_of_splits.items() if name is not None}
    if missing := [split for split, file in given_files.items() if not file.is_file()]:
        raise UserError(f"no file at {given_files[missing[0]].absolute()} (data.{missing[0]})")
    if given_files:
        return given_files
    by_split = _files_by_split(root)
    files_without_split = by_split.pop(None, [])
    if files_without_split and "train" in by_split:
        listed = ", ".join(str(file.relative_to(root)) for file in files_without_split)
        warnings.warn(f"{root}: {listed}: not used, since no split is in the name; rename or remove it", stacklevel=1)
    elif files_without_split:
        by_split["train"] = files_without_split
    for split, files in by_split.items():
        instance_files = [file for file in files if file.name.startswith(("instances", "_annotations"))]
        candidates = [file for file in instance_files if _has_format(file, LISTS)]
        if not candidates and len(files) <= SAMPLED_FILES:  # LabelMe may have written 100,000 files with images in them
            candidates = [file for file in files if _has_format(file, LISTS)]
        candidates = candidates or instance_files or files
        if len(candidates) != 1:
            listed = ", ".join(str(file.relative_to(root)) for file in files[:5]) + ", ..." * (len(files) > 5)
            question = f"which of {listed} is for {split}? In COCO's format, one file has all images of a split"
            raise UserError(f"{root}: {question}; give it with --data.{split} FILE, or {LABELME}")
        by_split[split] = candidates
    if not by_split:
        raise UserError(f"no JSON file in {root}; expected {root}/annotations/instances_train.json, or train/*.json")
    return {split: by_split[split][0] for split in SPLIT_NAMES if split in by_split}


def _files_by_split(root: Path) -> dict[str | None, list[Path]]:
    """Return the JSON files of each split. The files without a split in their names have the key None.

    If `root` has no such file and holds a single folder, that folder is searched.
    """
    split_folders = {folder: split for split, candidates in folders_by_split(root).items() for folder in candidates}
    json_folders = [f for f in folders(root) if f.name.lower() in ("annotations", "annotation", "labels")]
    by_split: dict[str | None, list[Path]] = {}
    for folder in (root, *json_folders, *split_folders):
        for file in files_in(folder, {".json"}):
            if not file.name.startswith(NOT_INSTANCES):
                by_split.setdefault(split_folders.get(folder) or split_in(file.stem), []).append(file)
    # unpacking an archive often creates one folder around the data set
    if not by_split and len(subfolders := folders(root)) == 1:
        return _files_by_split(subfolders[0])
    return by_split


def find_evidence(root: Path, pattern: re.Pattern[bytes] = LISTS) -> Evidence:
    """Return the JSON files among which `find` chooses. Files whose content matches `pattern` confirm the format."""
    files = [file for files in _files_by_split(root).values() for file in files]
    return Evidence(files, "JSON file", lambda file: _has_format(file, pattern))


def _has_format(file: Path, pattern: re.Pattern[bytes]) -> bool:
    """Return whether a file begins like a JSON object, and `pattern` matches at its beginning or its end.

    The bytes in the middle are not read: there may be gigabytes.
    """
    content = read_ends(file, SEARCHED_BYTES)
    return content.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"{") and bool(pattern.search(content))
