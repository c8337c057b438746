"""Match images with their mask files or XML files by the names of folders and files, and divide them into splits.

These layouts are found by the root alone: `images/train` and `masks/train`, `train/images` and `train/masks`, `train`
and `trainannot`, `train_images` and `train_masks`, each also without splits or in an archive's own folder; Pascal VOC's
folders with lists of each split's images; and files beside their images, with a mask's name ending in `_mask` or alike.
"""

import re
from functools import cache
from pathlib import Path, PurePath
from typing import NamedTuple

from kit.data.decode import EXTENSIONS
from kit.formats.folders import SPLITS, files_below, folders, images, split_folders, split_of
from kit.formats.paths import Finder, split_lists
from kit.ground.errors import UserError

# Names of folders in lower case, as regular expressions. The last of each are CamVid's.
IMAGE_FOLDERS = "images?|imgs?|jpegimages|leftimg8bit|inputs?|701_stillsraw_full"
MASK_FOLDERS = "masks?|labels?|annotations?|annots?|targets|segmentationclass|segmentations?|gtfine|gt|ground_?truth"
MASK_FOLDERS += "|labeledapproved_full"
XML_FOLDERS = "annotations?|xmls?|labels"
# What the name of a mask has after that of its image. If an image has several masks, the first of these is used.
MASK_ENDS = ("", "_mask", "_masks", "_l", "_label", "_labels", "_gtfine_labeltrainids", "_gtfine_labelids", "_gt")
MASK_ENDS += ("_seg", "_segmentation", "_annotation", "_lab", "_p", "-mask", "-label", ".mask")
IMAGE_ENDS = re.compile("(_leftimg8bit|_image|_img|_sat)$")


class Partners(NamedTuple):
    """Files that belong to images.

    noun: the files in messages.
    folders: the names of their folders in lower case, a regular expression.
    extensions: the extensions of the files in lower case.
    ends: what the name of a file has after that of its image; the first counts.
    lists: the folder in `ImageSets` with the lists for these files, in lower case.
    remedy: what error messages suggest.
    """

    noun: str
    folders: str
    extensions: set[str]
    ends: tuple[str, ...]
    lists: str
    remedy: str


MASK_REMEDY = "expected images/ and masks/, both with train/, val/ or none; or --data.images NAME --data.masks NAME"
XML_REMEDY = "expected JPEGImages/ and Annotations/, or train/ and val/ with both, of one data set: --data.root FOLDER"
MASKS = Partners("masks", MASK_FOLDERS, EXTENSIONS, MASK_ENDS, "segmentation", MASK_REMEDY)
XML_FILES = Partners("XML files", XML_FOLDERS, {".xml"}, ("",), "main", XML_REMEDY)


class Pairs(NamedTuple):
    """Images and their files, and images and files without a partner."""

    images: list[Path]
    files: list[Path]
    lone_images: list[Path]
    lone_files: list[Path]


class _File(NamedTuple):
    """A file below the root.

    is_partner: whether it is a mask or an XML file by its folder or extension; None if neither is known.
    key: its path below the folders that stand for a split or a kind of file, in lower case and without extension.
    """

    path: Path
    split: str | None
    is_partner: bool | None
    key: str


def find_pairs(
    root: Path, partners: Partners, image_folder: str | None = None, partner_folder: str | None = None
) -> dict[str, Pairs]:
    """Return the images and files of each split that exists. Undivided images are "train".

    A split whose images have no files is in the result, with its images in `lone_images`.

    Args:
        root: the data set's folder.
        image_folder, partner_folder: the folders of each, in `root` or in each split's folder; by default they are
            found by their names.

    Raises:
        UserError: no image with a file is found, or several folders may be meant.
    """
    image_folders = re.escape(PurePath(image_folder).name.lower()) if image_folder else IMAGE_FOLDERS
    if partner_folder:
        partners = partners._replace(folders=re.escape(PurePath(partner_folder).name.lower()))
    by_split = _find(root, partners, image_folders)
    if any(pairs.images for pairs in by_split.values()):
        return by_split
    if len(inner := folders(root)) == 1:  # the folder that an archive contains
        return find_pairs(inner[0], partners, image_folder, partner_folder)
    lone_images = [path for pairs in by_split.values() for path in pairs.lone_images]
    lone_files = [path for pairs in by_split.values() for path in pairs.lone_files]
    why = why_unpaired(Pairs([], [], lone_images, lone_files), partners)
    contents = ", ".join(f"{folder.name}/ ({len(images(folder))} images)" for folder in inner) or "no folders"
    raise UserError(f"no images with {partners.noun} in {root}, which holds {contents}: {why}; {partners.remedy}")


def why_unpaired(pairs: Pairs, partners: Partners) -> str:
    """Return a message about images and files without a partner."""
    examples = " and ".join(str(path) for path in (*pairs.lone_images[:1], *pairs.lone_files[:1]))
    counts = f"{len(pairs.lone_images)} images and {len(pairs.lone_files)} {partners.noun}"
    return f"{counts} without a partner of the same name{', as ' if examples else ''}{examples}"


def _find(root: Path, partners: Partners, image_folders: str) -> dict[str, Pairs]:
    files = _classify(root, partners, image_folders)
    undivided = [file for file in files if file.split is None]
    groups = {split: [file for file in files if file.split == split] for split in SPLITS}
    shared = [file for file in undivided if file.is_partner]  # masks in one folder, of images in folders by split
    if not any(groups.values()) or (not groups["train"] and _match(undivided, [], partners).images):
        groups["train"] = undivided
    result = {split: _match(group, shared, partners) for split, group in groups.items() if group}
    lists = split_lists(root, partners.lists) if groups["train"] is undivided else {}
    return _divide(result["train"], lists, root) if lists else {s: pairs for s, pairs in result.items() if any(pairs)}


def _classify(root: Path, partners: Partners, image_folders: str) -> list[_File]:
    """Return the images and partners below a folder, sorted. image_folders: as `Partners.folders`."""
    words = "|".join(word for spellings in SPLITS.values() for word in spellings)
    names = re.compile(rf"(?:({words})[\d_-]*)?(?:(?P<images>{image_folders})|(?P<partners>{partners.folders}))")
    folder_of: dict[tuple[str | None, bool], Path] = {}

    @cache
    def splits_in(folder: Path) -> dict[Path | None, str]:
        return {inner: split for split, inner in split_folders(folder).items()}

    @cache
    def meaning(folder: Path) -> tuple[str | None, bool | None, Path]:
        """Return the split and the kind of a folder's files, and the last folder of the path that stands for one."""
        if folder == root:
            return None, None, root
        split, kind, start = meaning(folder.parent)
        if start != folder.parent:
            return split, kind, start
        match = names.fullmatch(folder.name.lower())
        new_split = splits_in(folder.parent).get(folder) if match is None else match[1] and split_of(match[1])
        new_kind = None if match is None else match["partners"] is not None
        if (split and new_split) or None not in (kind, new_kind) or new_split is new_kind is None:
            return split, kind, start
        split, kind = split or new_split, kind if new_kind is None else new_kind
        if kind is not None and (other := folder_of.setdefault((split, kind), folder)) != folder:
            both = f"{other.relative_to(root)}/ and {folder.relative_to(root)}/"
            raise UserError(f"{root}: {both} both have {partners.noun if kind else 'images'}; {partners.remedy}")
        return split, kind, folder

    files = []
    for path in sorted(files_below(root)):
        extension = path.suffix.lower()
        if extension in EXTENSIONS or extension in partners.extensions:
            split, kind, start = meaning(path.parent)
            if partners.extensions is not EXTENSIONS:
                kind = True if extension in partners.extensions else None if kind else kind
            files.append(_File(path, split, kind, path.relative_to(start).with_suffix("").as_posix().lower()))
    return files


def _match(group: list[_File], shared: list[_File], partners: Partners) -> Pairs:
    """Match the images of a split with its partners, or with those of all splits if it has none of its own."""
    ends = partners.ends
    pictures = [f for f in group if f.is_partner is False] or [f for f in group if f.is_partner is None]
    of_split = [file for file in group if file.is_partner]
    files = {file.key: file.path for file in of_split or shared}
    if not files:  # images and masks in one folder, as `a.jpg` and `a_mask.png`
        ends = ends[1:]
        files = {file.key: file.path for file in pictures if file.key.endswith(ends)}
        pictures = [file for file in pictures if not file.key.endswith(ends)]
    file_of: dict[Path, Path] = {}
    lone_images, known = [], set[str]()
    for picture in pictures:
        key = picture.key
        bases = (key, IMAGE_ENDS.sub("", key), f"{key}{picture.path.suffix.lower()}")  # the last: `a.jpg.png`
        known.update(bases)
        file = next((files[base + end] for base in bases for end in ends if base + end in files), None)
        if file is None:
            lone_images.append(picture.path)
        else:
            file_of[picture.path] = file
    used = set(file_of.values())
    known = known if file_of else set()  # if nothing matches, each file may be a mask
    lone_files = [path for key, path in files.items() if path not in used and not _belongs(key, known)]
    is_shared = bool(shared) and not of_split  # the other files may belong to other splits
    return Pairs(list(file_of), list(file_of.values()), lone_images, [] if is_shared else lone_files)


def _belongs(key: str, known: set[str]) -> bool:
    """Return whether a file belongs to a known image, as `a_gtFine_color` belongs to `a`."""
    parts = re.split(r"(?=[_.-])", key)
    return any("".join(parts[:end]) in known for end in range(1, len(parts) + 1))


def _divide(pairs: Pairs, lists: dict[str, list[str]], root: Path) -> dict[str, Pairs]:
    """Divide pairs by lists of images. A listed image that is not there is in `lone_images`."""
    file_of = dict(zip(pairs.images, pairs.files, strict=True))
    lone_files = set(pairs.lone_files)
    find = Finder(lambda: [*pairs.images, *pairs.lone_images, *pairs.lone_files])
    result = {}
    for split, lines in lists.items():
        # Lists of one class have 1 or -1 after the name.
        listed = [find(line) or find(line.rsplit(maxsplit=1)[0]) or root / line for line in lines]
        images = [path for path in listed if path in file_of]
        lone_images = [path for path in listed if path not in file_of and path not in lone_files]
        files = [file_of[path] for path in images]
        result[split] = Pairs(images, files, lone_images, [path for path in listed if path in lone_files])
    return result
