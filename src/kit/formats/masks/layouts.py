"""Find the mask of each image by the names of folders and files."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kit.formats.folders import SPLITS, folders, images, read_names, split_folders
from kit.ground.errors import UserError

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "leftimg8bit", "input", "inputs")
IMAGE_FOLDERS += ("701_stillsraw_full",)  # CamVid
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "annotation", "annots", "annot", "targets")
MASK_FOLDERS += ("segmentationclass", "segmentations", "segmentation", "gtfine", "gt", "ground_truth", "groundtruth")
MASK_FOLDERS += ("labeledapproved_full",)
# What the name of a mask has after that of its image. If a folder has several, the first of these is used.
MASK_ENDS = ("", "_mask", "_masks", "_l", "_label", "_labels", "_gtfine_labeltrainids", "_gtfine_labelids", "_gt")
MASK_ENDS += ("_seg", "_segmentation", "_annotation", "_lab", "_p", "-mask", "-label", ".mask")
IMAGE_ENDS = re.compile("(_leftimg8bit|_image|_img|_sat)$")


class Pairs(NamedTuple):
    """Images and their masks, and images and masks without a partner."""

    images: list[Path]
    masks: list[Path]
    lone_images: list[Path]
    lone_masks: list[Path]


def find_pairs(root: Path, images_in: str | None = None, masks_in: str | None = None) -> dict[str, Pairs]:
    """Return the images and masks of each split that exists. Undivided images are "train".

    A split whose images have no masks is in the result, with its images in `lone_images`.

    Args:
        root: the data set's folder.
        images_in, masks_in: the folders of the images and of the masks, below `root` or below each split's folder.

    Raises:
        UserError: no image with a mask is found, or several folders may be meant.
    """
    pairs_by_split = _find(root, images_in, masks_in)
    if not pairs_by_split:
        contents = ", ".join(f"{f.name}/ ({len(images(f))} images)" for f in folders(root)) or "no folders"
        raise UserError(
            f"no images with masks in {root}, which holds {contents}; expected images/ and masks/ (each with train/, "
            "val/ if divided), or train/ and trainannot/, or JPEGImages/ and SegmentationClass/; "
            "else name them: --data.images FOLDER --data.masks FOLDER"
        )
    if not any(pairs.images for pairs in pairs_by_split.values()):
        lone_images = [path for pairs in pairs_by_split.values() for path in pairs.lone_images]
        lone_masks = [path for pairs in pairs_by_split.values() for path in pairs.lone_masks]
        raise UserError(f"{root}: {why_unpaired(Pairs([], [], lone_images, lone_masks))}")
    return pairs_by_split


def why_unpaired(pairs: Pairs) -> str:
    """Return a message about images of which none has a mask."""
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
        return _match_lists(*both, lists) if lists else _match_splits(*both)
    result, are_named = {}, images_in is not None or masks_in is not None
    for split, (name, folder) in _split_folders(root).items():
        inside = _image_and_mask_folder(folder, images_in, masks_in)
        beside = None if inside or are_named else _mask_folder_beside(root, name)
        if inside or beside:
            result[split] = match(*inside) if inside else match(folder, beside)
        elif are_named:
            result[split] = Pairs([], [], images(folder / (images_in or "")), [])
        else:
            result[split] = match_in_one(folder)
    if any(pairs.images or pairs.lone_masks for pairs in result.values()):
        return {split: pairs for split, pairs in result.items() if any(pairs)}
    if not are_named and (pairs := match_in_one(root)).images:
        return {"train": pairs}
    inner = folders(root)
    return _find(inner[0], images_in, masks_in) if len(inner) == 1 else {}  # the folder that an archive contains


def _split_folders(root: Path) -> dict[str, tuple[str, Path]]:
    """Return, for each split, the word its folder's name begins with, and the folder: `train` or `train_images`."""
    result = {split: (folder.name, folder) for split, folder in split_folders(root).items() if folder is not None}
    for split, names in SPLITS.items():
        pattern = re.compile(rf"({'|'.join(names)})[_-]?({'|'.join(IMAGE_FOLDERS)})", re.IGNORECASE)
        for folder in folders(root):
            if split not in result and (match := pattern.fullmatch(folder.name)):
                result[split] = match[1], folder
    return result


def _image_and_mask_folder(parent: Path, images_in: str | None, masks_in: str | None) -> tuple[Path, Path] | None:
    """Return the folder of images and the folder of masks in a folder, or None if it does not have both."""
    kinds = (("images", images_in, IMAGE_FOLDERS), ("masks", masks_in, MASK_FOLDERS))
    chosen = []
    for argument, name, names in kinds:
        if name is not None:
            candidates = [parent / name] if (parent / name).is_dir() else []
        else:
            candidates = [folder for folder in folders(parent) if folder.name.lower() in names and images(folder)]
        if len(candidates) > 1:
            listed = ", ".join(f"{folder.name}/" for folder in candidates)
            raise UserError(
                f"{parent} has several folders of {argument}: {listed}; say which: --data.{argument} FOLDER"
            )
        chosen += candidates
    return (chosen[0], chosen[1]) if len(chosen) == 2 else None


def _mask_folder_beside(root: Path, name: str) -> Path | None:
    """Return the folder of masks beside a split's folder: `trainannot`, `train_labels` or `train-masks` for `train`."""
    pattern = re.compile(rf"{re.escape(name)}[_-]?({'|'.join(MASK_FOLDERS)})", re.IGNORECASE)
    matches = [other for other in folders(root) if pattern.fullmatch(other.name) and images(other)]
    if len(matches) > 1:
        listed = ", ".join(f"{other.name}/" for other in matches)
        raise UserError(f"{root} has several folders of masks for {name}/: {listed}; keep one")
    return matches[0] if matches else None


def _match_splits(image_folder: Path, mask_folder: Path) -> dict[str, Pairs]:
    """Match images and masks, each in a folder that may be divided into splits."""
    splits, mask_splits = split_folders(image_folder), split_folders(mask_folder)
    if not any(splits.values()):
        return {"train": match(image_folder, mask_folder)}
    result = {}
    for split, folder in splits.items():
        masks = (
            mask_splits[split] if any(mask_splits.values()) else mask_folder
        )  # one folder for the masks of all splits
        if folder is None:
            result[split] = Pairs([], [], [], images(masks) if masks and masks != mask_folder else [])
        else:
            result[split] = match(folder, masks) if masks else Pairs([], [], images(folder), [])
    if not any(mask_splits.values()) and any(pairs.images for pairs in result.values()):
        result = {split: pairs._replace(lone_masks=[]) for split, pairs in result.items()}
    return {split: pairs for split, pairs in result.items() if any(pairs)}


def _lists(root: Path) -> dict[str, Path]:
    """Return Pascal VOC's list files by split. They have one name in each line."""
    files: dict[str, Path] = {}
    for outer in folders(root):
        for inner in folders(outer) if outer.name.lower() == "imagesets" else ():
            if inner.name.lower() == "segmentation":
                files |= {path.name.lower(): path for path in inner.iterdir() if path.is_file()}
    result = {}
    for split, names in SPLITS.items():
        for name in (*names, *(["trainval"] if split == "train" else [])):
            if split not in result and f"{name}.txt" in files:
                result[split] = files[f"{name}.txt"]
    return result


def _match_lists(image_folder: Path, mask_folder: Path, lists: dict[str, Path]) -> dict[str, Pairs]:
    """Match images and masks, and divide them by list files."""
    every = match(image_folder, mask_folder)
    masks = {image.stem: mask for image, mask in zip(every.images, every.masks, strict=True)}
    paths = {image.stem: image for image in (*every.images, *every.lone_images)}
    lone = {mask.stem: mask for mask in every.lone_masks}
    result = {}
    for split, file in lists.items():
        names = read_names(file)
        paired = [name for name in names if name in masks]
        if names:
            result[split] = Pairs(
                [paths[name] for name in paired],
                [masks[name] for name in paired],
                [paths.get(name, image_folder / f"{name}.jpg") for name in names if name not in masks],
                [lone[name] for name in names if name in lone],
            )
    return result


def match(image_folder: Path, mask_folder: Path) -> Pairs:
    """Match images and masks by their paths below the two folders."""
    masks = {_key(path, mask_folder): path for path in images(mask_folder)}
    return _pair(images(image_folder), image_folder, masks)


def match_in_one(folder: Path) -> Pairs:
    """Match images and masks in one folder, as `a.jpg` and `a_mask.png`."""
    files = images(folder)
    keys = {_key(path, folder): path for path in files}
    ends = MASK_ENDS[1:]
    masks = {key: path for key, path in keys.items() if key.endswith(ends)}
    if not masks:
        return Pairs([], [], files, [])
    return _pair([path for key, path in keys.items() if key not in masks], folder, masks, ends)


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
    known = known if pairs else set()  # if nothing matches, each file may be a mask
    lone_masks = [path for key, path in masks.items() if path not in used and not _belongs(key, known)]
    return Pairs([image for image, _ in pairs], [mask for _, mask in pairs], lone_images, lone_masks)


def _belongs(key: str, known: set[str]) -> bool:
    """Return whether a file belongs to a known image, as `a_gtFine_color` belongs to `a`."""
    parts = re.split(r"(?=[_.-])", key)
    return any("".join(parts[:end]) in known for end in range(1, len(parts) + 1))


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix().lower()
