"""Which mask is which image's, found by the names of folders and files."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kit.formats.folders import SPLITS, folders, images, split_folders
from kit.ground.errors import UserError
from kit.ground.reading import MOST_OF_LIST, read_text

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "leftimg8bit", "input", "inputs")
IMAGE_FOLDERS += ("701_stillsraw_full",)  # CamVid, as it was published
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "annotation", "annots", "annot", "targets")
MASK_FOLDERS += ("segmentationclass", "segmentations", "segmentation", "gtfine", "gt", "ground_truth", "groundtruth")
MASK_FOLDERS += ("labeledapproved_full",)
# What a mask's name has more than its image's; the earlier is taken where there are both.
MASK_ENDS = ("", "_mask", "_masks", "_l", "_label", "_labels", "_gtfine_labeltrainids", "_gtfine_labelids", "_gt")
MASK_ENDS += ("_seg", "_segmentation", "_annotation", "_lab", "_p", "-mask", "-label", ".mask")
IMAGE_ENDS = re.compile("(_leftimg8bit|_image|_img|_sat)$")


class Pairs(NamedTuple):
    """Images and their masks, and those that have no partner."""

    images: list[Path]
    masks: list[Path]
    lone_images: list[Path]
    lone_masks: list[Path]


def find_pairs(root: Path, images_in: str | None = None, masks_in: str | None = None) -> dict[str, Pairs]:
    """`{"train": ..., "val": ..., "test": ...}`, as far as they are there; undivided images are "train".

    Args:
        root: the data set's folder.
        images_in, masks_in: the folders of the images and of the masks, below `root` or below each split's folder.

    A split whose images have no masks is there, with its lone images.

    Raises:
        UserError: nothing is found, or no pair, or more than one thing could be meant.
    """
    found = _find(root, images_in, masks_in)
    if not found:
        there = ", ".join(f"{f.name}/ ({len(images(f))} images)" for f in folders(root)) or "no folders"
        raise UserError(
            f"no images with masks in {root}, which holds {there}; expected images/ and masks/ (each with train/, "
            "val/ if divided), or train/ and trainannot/, or JPEGImages/ and SegmentationClass/; "
            "else name them: --data.images FOLDER --data.masks FOLDER"
        )
    if not any(pairs.images for pairs in found.values()):
        lone = Pairs([], [], *([path for p in found.values() for path in p[kind]] for kind in (2, 3)))
        raise UserError(f"{root}: {why_unpaired(lone)}")
    return found


def why_unpaired(pairs: Pairs) -> str:
    """Of images none of which has a mask."""
    lone_images, lone_masks = pairs.lone_images, sorted(set(pairs.lone_masks))
    if not lone_masks:
        return f"{len(lone_images)} images and no masks for them, as for {lone_images[0]}"
    if not lone_images:
        return f"{len(lone_masks)} masks and no images for them, as for {lone_masks[0]}"
    example = f"{lone_images[0].name} and {lone_masks[0].name}"
    return f"{len(lone_images)} images, {len(lone_masks)} masks, no names in common, as {example}"


def _find(root: Path, images_in: str | None, masks_in: str | None) -> dict[str, Pairs]:
    both = _image_and_mask_folder(root, images_in, masks_in)
    if both:
        lists = _lists(root)
        return _listed(*both, lists) if lists else _divided(*both)
    found, named = {}, images_in is not None or masks_in is not None
    for split, (name, folder) in _split_folders(root).items():
        inside = _image_and_mask_folder(folder, images_in, masks_in)
        beside = None if inside or named else _mask_folder_beside(root, name)
        if inside or beside:
            found[split] = match(*inside) if inside else match(folder, beside)
        else:
            found[split] = Pairs([], [], images(folder / (images_in or "")), []) if named else match_in_one(folder)
    if any(pairs.images or pairs.lone_masks for pairs in found.values()):
        return {split: pairs for split, pairs in found.items() if any(pairs)}
    if not named and (pairs := match_in_one(root)).images:
        return {"train": pairs}
    inner = folders(root)
    return _find(inner[0], images_in, masks_in) if len(inner) == 1 else {}  # an archive's own folder


def _split_folders(root: Path) -> dict[str, tuple[str, Path]]:
    """`train` or `train_images`: what its name begins with, and the folder."""
    found = {split: (folder.name, folder) for split, folder in split_folders(root).items() if folder is not None}
    for split, names in SPLITS.items():
        pattern = re.compile(rf"({'|'.join(names)})[_-]?({'|'.join(IMAGE_FOLDERS)})", re.IGNORECASE)
        for folder in folders(root):
            if split not in found and (whole := pattern.fullmatch(folder.name)):
                found[split] = whole[1], folder
    return found


def _image_and_mask_folder(place: Path, images_in: str | None, masks_in: str | None) -> tuple[Path, Path] | None:
    kinds = (("images", images_in, IMAGE_FOLDERS), ("masks", masks_in, MASK_FOLDERS))
    chosen = []
    for argument, given, names in kinds:
        if given is not None:
            candidates = [place / given] if (place / given).is_dir() else []
        else:
            candidates = [folder for folder in folders(place) if folder.name.lower() in names and images(folder)]
        if len(candidates) > 1:
            listed = ", ".join(f"{folder.name}/" for folder in candidates)
            raise UserError(f"{place} has several folders of {argument}: {listed}; say which: --data.{argument} FOLDER")
        chosen += candidates
    return (chosen[0], chosen[1]) if len(chosen) == 2 else None


def _mask_folder_beside(root: Path, name: str) -> Path | None:
    """`trainannot`, `train_labels`, `train-masks` beside `train`."""
    wanted = re.compile(rf"{re.escape(name)}[_-]?({'|'.join(MASK_FOLDERS)})", re.IGNORECASE)
    found = [other for other in folders(root) if wanted.fullmatch(other.name) and images(other)]
    if len(found) > 1:
        listed = ", ".join(f"{other.name}/" for other in found)
        raise UserError(f"{root} has several folders of masks for {name}/: {listed}; keep one")
    return found[0] if found else None


def _divided(image_folder: Path, mask_folder: Path) -> dict[str, Pairs]:
    splits, of_masks = split_folders(image_folder), split_folders(mask_folder)
    if not any(splits.values()):
        return {"train": match(image_folder, mask_folder)}
    found = {}
    for split, folder in splits.items():
        masks = of_masks[split] if any(of_masks.values()) else mask_folder  # one folder for the masks of all splits
        if folder is None:
            found[split] = Pairs([], [], [], images(masks) if masks and masks != mask_folder else [])
        else:
            found[split] = match(folder, masks) if masks else Pairs([], [], images(folder), [])
    if not any(of_masks.values()) and any(pairs.images for pairs in found.values()):
        found = {split: pairs._replace(lone_masks=[]) for split, pairs in found.items()}
    return {split: pairs for split, pairs in found.items() if any(pairs)}


def _lists(root: Path) -> dict[str, Path]:
    """VOC's list files: a name a line."""
    files: dict[str, Path] = {}
    for outer in folders(root):
        for inner in folders(outer) if outer.name.lower() == "imagesets" else ():
            if inner.name.lower() == "segmentation":
                files |= {path.name.lower(): path for path in inner.iterdir() if path.is_file()}
    found = {}
    for split, names in SPLITS.items():
        for name in (*names, *(["trainval"] if split == "train" else [])):
            if split not in found and f"{name}.txt" in files:
                found[split] = files[f"{name}.txt"]
    return found


def _listed(image_folder: Path, mask_folder: Path, lists: dict[str, Path]) -> dict[str, Pairs]:
    every = match(image_folder, mask_folder)
    masks = {image.stem: mask for image, mask in zip(every.images, every.masks, strict=True)}
    paths = {image.stem: image for image in (*every.images, *every.lone_images)}
    lone = {mask.stem: mask for mask in every.lone_masks}
    found = {}
    for split, file in lists.items():
        names = [line.split()[0] for line in read_text(file, MOST_OF_LIST).splitlines() if line.strip()]
        paired = [name for name in names if name in masks]
        if names:
            found[split] = Pairs(
                [paths[name] for name in paired],
                [masks[name] for name in paired],
                [paths.get(name, image_folder / f"{name}.jpg") for name in names if name not in masks],
                [lone[name] for name in names if name in lone],
            )
    return found


def match(image_folder: Path, mask_folder: Path) -> Pairs:
    """By name, below the two folders alike."""
    masks = {_key(path, mask_folder): path for path in images(mask_folder)}
    return _pair(images(image_folder), image_folder, masks)


def match_in_one(folder: Path) -> Pairs:
    """`a.jpg` and `a_mask.png` in one folder."""
    files = images(folder)
    keys = {_key(path, folder): path for path in files}
    ends = MASK_ENDS[1:]
    masks = {key: path for key, path in keys.items() if key.endswith(ends)}
    return (
        _pair([path for key, path in keys.items() if key not in masks], folder, masks, ends)
        if masks
        else Pairs([], [], files, [])
    )


def _pair(paths: Sequence[Path], folder: Path, masks: dict[str, Path], ends: Sequence[str] = MASK_ENDS) -> Pairs:
    pairs, lone_images, known = [], [], set()
    for path in paths:
        key = _key(path, folder)
        bases = (key, IMAGE_ENDS.sub("", key), f"{key}{path.suffix.lower()}")  # the last: `a.jpg.png`
        mask = next((masks[base + end] for base in bases for end in ends if base + end in masks), None)
        known.update(bases)
        if mask is None:
            lone_images.append(path)
        else:
            pairs.append((path, mask))
    used = {mask for _, mask in pairs}
    known = known if pairs else set()  # where nothing matches, nothing is more than a mask
    lone_masks = [path for key, path in masks.items() if path not in used and not _belongs(key, known)]
    return Pairs([image for image, _ in pairs], [mask for _, mask in pairs], lone_images, lone_masks)


def _belongs(key: str, known: set[str]) -> bool:
    """Whether a file is another one about a known image, such as `a_gtFine_color` about `a`."""
    parts = re.split(r"(?=[_.-])", key)
    return any("".join(parts[:end]) in known for end in range(1, len(parts) + 1))


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix().lower()
