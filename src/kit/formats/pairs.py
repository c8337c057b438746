"""Match images with their mask files or XML files by the names of folders and files, and divide them into splits.

In the code, the partner of an image is its mask file or XML file. These layouts are recognised in the root, or in the
only folder of the root:

- `images/train` and `masks/train`, `train/images` and `train/masks`, `train` and `trainannot`, `train_images` and
  `train_masks`, or `images` and `masks` without splits
- Pascal VOC's folders, with lists of the images of each split
- files beside their images; the name of a mask then ends in `_mask` or similar
"""

import re
from functools import cache
from pathlib import Path, PurePath
from typing import NamedTuple

from kit.data.decode import EXTENSIONS
from kit.formats.coco_search import LABELME
from kit.formats.folders import SPLIT_NAMES, folders, images, paths_below, split_folders, split_of
from kit.formats.paths import Finder, fold_case, split_lists
from kit.ground.errors import UserError

# Regular expressions for the names of folders, in lower case. The names that end in `_full` are CamVid's.
IMAGE_FOLDERS = "images?|imgs?|jpegimages|leftimg8bit|inputs?|701_stillsraw_full"
MASK_FOLDERS = "masks?|labels?|annotations?|annots?|targets|segmentationclass|segmentations?|gtfine|gt|ground_?truth"
MASK_FOLDERS += "|labeledapproved_full"
XML_FOLDERS = "annotations?|xmls?|labels"
# The endings that masks add to the names of their images. If an image has several masks, the earliest ending wins.
MASK_ENDS = ("", "_mask", "_masks", "_l", "_label", "_labels", "_gtfine_labeltrainids", "_gtfine_labelids", "_gt")
MASK_ENDS += ("_seg", "_segmentation", "_annotation", "_lab", "_p", "-mask", "-label", ".mask")
IMAGE_ENDS = re.compile("(_leftimg8bit|_image|_img|_sat)$")


class Partners(NamedTuple):
    """A kind of partner: masks or XML files.

    noun: the word for these files in messages.
    folders: a regular expression for the names of their folders, in lower case.
    extensions: their extensions, in lower case.
    ends: the endings that they add to the names of their images, preferred ones first.
    lists: the name, in lower case, of the folder in `ImageSets` that has the lists of images with such partners.
    remedy: advice for error messages.
    """

    noun: str
    folders: str
    extensions: set[str]
    ends: tuple[str, ...]
    lists: str
    remedy: str


MASK_REMEDY = "expected images/ and masks/, both with or without splits, or train/_annotations.coco.json with polygons"
MASK_REMEDY += f"; or give --data.images NAME --data.masks NAME, or {LABELME}"
XML_REMEDY = "expected one data set, with JPEGImages/ and Annotations/, or train/ and val/; give --data.root FOLDER"
MASKS = Partners("masks", MASK_FOLDERS, EXTENSIONS, MASK_ENDS, "segmentation", MASK_REMEDY)
XML_FILES = Partners("XML files", XML_FOLDERS, {".xml"}, ("",), "main", XML_REMEDY)


class Pairs(NamedTuple):
    """The images and partners of a split.

    images, files: the paired images and their partners, in the same order.
    lone_images: images without a partner; a list may name images that do not exist.
    lone_files: partners without an image.
    """

    images: list[Path]
    files: list[Path]
    lone_images: list[Path]
    lone_files: list[Path]


class _File(NamedTuple):
    """A file below the root.

    is_partner: True for a mask or an XML file, False for an image, None if unknown.
    key: the path in lower case, without the extension. It is relative to the deepest folder whose name tells the split
        or the kind of file. A partner's key is its image's key plus one of `Partners.ends`; `_match` has exceptions.
    """

    path: Path
    split: str | None
    is_partner: bool | None
    key: str


def find_pairs(
    root: Path, partners: Partners, image_folder: str | None = None, partner_folder: str | None = None
) -> dict[str, Pairs]:
    """Return the images and partners of each split. All images of a data set without splits are for train.

    A split without partners is included, with its images in `lone_images`. If nothing in `root` matches and `root` has
    a single folder, that folder is searched.

    Args:
        root: the data set's folder.
        image_folder, partner_folder: the names of the folders of images and of partners; by default, common names.

    Raises:
        UserError: no image has a partner, an image has two partners, or a split has two folders of images or partners.
    """
    image_folders = re.escape(PurePath(image_folder).name.lower()) if image_folder else IMAGE_FOLDERS
    if partner_folder:
        partners = partners._replace(folders=re.escape(PurePath(partner_folder).name.lower()))
    by_split = _find(root, partners, image_folders)
    if any(pairs.images for pairs in by_split.values()):
        return by_split
    # unpacking an archive often creates one folder around the data set
    if len(subfolders := folders(root)) == 1:
        return find_pairs(subfolders[0], partners, image_folder, partner_folder)
    lone_images = [path for pairs in by_split.values() for path in pairs.lone_images]
    lone_files = [path for pairs in by_split.values() for path in pairs.lone_files]
    why = why_unpaired(Pairs([], [], lone_images, lone_files), partners)
    contents = ", ".join(f"{folder.name}/ ({len(images(folder))} images)" for folder in subfolders) or "no folders"
    raise UserError(f"no images with {partners.noun} in {root}, which holds {contents}: {why}; {partners.remedy}")


def why_unpaired(pairs: Pairs, partners: Partners) -> str:
    """Return the numbers of images and of files without a partner, and an example of each, as a text."""
    examples = " and ".join(str(path) for path in (*pairs.lone_images[:1], *pairs.lone_files[:1]))
    counts = f"{len(pairs.lone_images)} images and {len(pairs.lone_files)} {partners.noun}"
    return f"{counts} without a partner of the same name{', such as ' if examples else ''}{examples}"


def _find(root: Path, partners: Partners, image_folders: str) -> dict[str, Pairs]:
    """Return the images and partners of each split. `image_folders` is a regular expression for folders' names."""
    files = _classify(root, partners, image_folders)
    if not files:
        return {}
    files_without_split = [file for file in files if file.split is None]
    by_split = {split: [file for file in files if file.split == split] for split in SPLIT_NAMES}
    # Partners for all splits, such as one folder of masks.
    shared_partners = [file for file in files_without_split if file.is_partner]
    if not any(by_split.values()) or (not by_split["train"] and _match(files_without_split, [], partners).images):
        by_split["train"] = files_without_split
    result = {split: _match(files, shared_partners, partners) for split, files in by_split.items() if files}
    # Pascal VOC has lists of the images of each split.
    lists = split_lists(root, partners.lists) if by_split["train"] is files_without_split else {}
    return _divide(result["train"], lists, root) if lists else {s: pairs for s, pairs in result.items() if any(pairs)}


def _classify(root: Path, partners: Partners, image_folders: str) -> list[_File]:
    """Return the images and partners below a folder, sorted. `image_folders` is a regular expression."""
    words = "|".join(word for spellings in SPLIT_NAMES.values() for word in spellings)
    # The pattern matches, for example, `train_images`, `trainannot` and `masks`.
    names = re.compile(rf"(?:({words})[\d_-]*)?(?:(?P<images>{image_folders})|(?P<partners>{partners.folders}))")
    folder_of: dict[tuple[str | None, bool], Path] = {}  # the folder of each split's images or partners

    @cache
    def splits_in(folder: Path) -> dict[Path | None, str]:
        return {subfolder: split for split, subfolder in split_folders(folder).items()}

    @cache
    def interpret(folder: Path) -> tuple[str | None, bool | None, Path]:
        """Return the split of a folder's files, whether they are partners, and the deepest folder whose name counts.

        Read the folders from the root down. Stop at the first name that gives neither a split nor a kind, or that gives
        one that is already known.
        """
        split, is_partner, deepest = None, None, root
        for name in folder.relative_to(root).parts:
            child, match = deepest / name, names.fullmatch(name.lower())
            new_split = splits_in(deepest).get(child) if match is None else match[1] and split_of(match[1])
            has_partners = None if match is None else match["partners"] is not None
            is_repeated = (split and new_split) or None not in (is_partner, has_partners)
            if is_repeated or (new_split is None and has_partners is None):
                break
            split, is_partner = split or new_split, is_partner if has_partners is None else has_partners
            deepest = child
            if is_partner is not None and (other := folder_of.setdefault((split, is_partner), child)) != child:
                both = f"{other.relative_to(root)}/ and {child.relative_to(root)}/"
                kind = partners.noun if is_partner else "images"
                raise UserError(f"{root}: {both} both have {kind}; {partners.remedy}")
        return split, is_partner, deepest

    files = []
    for path in sorted(map(Path, paths_below(root))):
        extension = path.suffix.lower()
        if extension in EXTENSIONS or extension in partners.extensions:
            split, is_partner, start = interpret(path.parent)
            if partners.extensions is not EXTENSIONS:
                # An XML file is recognised by its extension alone. For an image in a folder of XML files, `is_partner`
                # is None.
                is_partner = True if extension in partners.extensions else None if is_partner else is_partner
            files.append(_File(path, split, is_partner, fold_case(path.relative_to(start).with_suffix("").as_posix())))
    return files


def _match(split_files: list[_File], shared_partners: list[_File], partners: Partners) -> Pairs:
    """Match the images of a split with its partners, or with `shared_partners` if the split has none."""
    ends = partners.ends
    pictures = [f for f in split_files if f.is_partner is False] or [f for f in split_files if f.is_partner is None]
    split_partners = [file for file in split_files if file.is_partner]
    candidates = split_partners or shared_partners
    if not candidates:  # partners may be in the folder of their images: `a.jpg` and `a_mask.png`
        ends = ends[1:]
        candidates = [file for file in pictures if file.key.endswith(ends)]
        pictures = [file for file in pictures if not file.key.endswith(ends)]
    files: dict[str, Path] = {}
    second_files: dict[Path, Path] = {}  # for each of `files` another file with the same key, if there is one
    for file in candidates:
        if (other := files.setdefault(file.key, file.path)) != file.path:
            second_files[other] = file.path
    file_of, lone_images, image_keys = dict[Path, Path](), list[Path](), set[str]()
    for picture in pictures:
        key = picture.key
        # The last base is for the partner `a.jpg.png` of `a.jpg`.
        bases = (key, IMAGE_ENDS.sub("", key), f"{key}{picture.path.suffix.lower()}")
        image_keys.update(bases)
        partner = next((files[base + end] for base in bases for end in ends if base + end in files), None)
        if partner is None:
            lone_images.append(picture.path)
        elif partner in second_files:
            raise UserError(f"{partner} and {second_files[partner].name} belong to the same image; remove one of them")
        else:
            file_of[picture.path] = partner
    used_files = set(file_of.values())
    image_keys = image_keys if file_of else set()  # if nothing matches, all files count as lone
    own_files = {} if shared_partners and not split_partners else files  # shared files may belong to other splits
    lone_files = [path for key, path in own_files.items() if path not in used_files and not _belongs(key, image_keys)]
    lone_files += [second_files[path] for path in lone_files if path in second_files]
    return Pairs(list(file_of), list(file_of.values()), lone_images, lone_files)


def _belongs(key: str, image_keys: set[str]) -> bool:
    """Return whether a file's key begins with the key of an image: `a_gtFine_color` belongs to `a`."""
    parts = re.split(r"(?=[_.-])", key)
    return any("".join(parts[:end]) in image_keys for end in range(1, len(parts) + 1))


def _divide(pairs: Pairs, lists: dict[str, list[str]], root: Path) -> dict[str, Pairs]:
    """Divide pairs into splits by the lines of image lists. Listed images that do not exist go to `lone_images`."""
    file_of = dict(zip(pairs.images, pairs.files, strict=True))
    lone_files = set(pairs.lone_files)
    find = Finder(lambda: [*pairs.images, *pairs.lone_images, *pairs.lone_files])
    result = {}
    for split, lines in lists.items():
        listed = [find(line) or root / line for line in lines]
        images = [path for path in listed if path in file_of]
        lone_images = [path for path in listed if path not in file_of and path not in lone_files]
        files = [file_of[path] for path in images]
        result[split] = Pairs(images, files, lone_images, [path for path in listed if path in lone_files])
    find.report_other_paths(root / "ImageSets")
    return result
