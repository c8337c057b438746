"""Read boxes from Pascal VOC's files: an XML file for each image.

Corners are used as they are written. Pascal VOC counts pixels from 1 and includes the last; others count from 0. The
difference is at most one pixel, and no file says which it is. `difficult` objects are read as crowds: they are ignored,
as in the evaluation of Pascal VOC.
"""

import re
from pathlib import Path
from xml.etree import ElementTree

from kit.formats.boxes.annotation import (
    Annotation,
    Reading,
    drop_relative_boxes,
    missing_annotation,
    missing_image,
    unreadable,
)
from kit.formats.coco import number
from kit.formats.folders import SPLITS, files_below, folders, images, read_names, split_folders, split_of
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.faults import Fault
from kit.ground.files import MAX_ANNOTATION_BYTES, read_bytes

ANNOTATIONS = ("annotations", "annotation", "xmls", "xml", "labels")
IMAGES = ("jpegimages", "images", "image", "imgs", "img")
Pair = tuple[Path | None, Path | None]  # an image and its XML file


def find(root: Path) -> dict[str, list[Pair]]:
    """Return the images of each split with their XML files. Either of a pair may be missing.

    There are three layouts: `Annotations/`, `JPEGImages/` and perhaps `ImageSets/Main/{train,val,test,trainval}.txt`;
    a folder for each split, with XML files beside the images or in folders as above; or all files in one folder.
    """
    root = _data_set_folder(root)
    splits = {split: folder for split, folder in split_folders(root).items() if folder is not None}
    if splits:
        return {split: _pairs(folder) for split, folder in splits.items()}
    pairs = _pairs(root)
    lists = _split_lists(root)
    if lists:
        return {split: _select(pairs, names) for split, names in lists.items()}
    by_split = {split: [p for p in pairs if _split_of_pair(p, root) == split] for split in SPLITS}
    if any(by_split.values()):  # Annotations/train/*.xml
        return {split: members for split, members in by_split.items() if members}
    if not any(xml for _, xml in pairs):
        raise UserError(f"no XML files in {root}; expected {root}/Annotations/*.xml, or train/*.xml, or *.xml")
    return {"train": pairs}


def read(pairs: list[Pair]) -> Reading:
    """Read the XML files of a split."""
    annotations: list[Annotation] = []
    faults: list[Fault] = []
    names: set[str] = set()
    for image, xml in pairs:
        if xml is None:
            faults.append(missing_annotation(image, "without an XML file it is left out"))
        elif image is None:
            faults.append(missing_image(xml, None, f"{xml.stem}.* beside it or in the folder of images"))
        else:
            annotation = _parse(xml, image, faults)
            annotations.append(annotation)
            names.update(annotation.names)
    annotations = drop_relative_boxes(annotations, faults)
    return Reading(annotations, sorted(names, key=str.strip), faults)


def _parse(xml: Path, image: Path, faults: list[Fault]) -> Annotation:
    try:
        content = read_bytes(xml, MAX_ANNOTATION_BYTES)
        if b"<!ENTITY" in content:
            raise BrokenFiles(f"{xml}: it declares entities, which no annotation needs")
        tree = ElementTree.fromstring(content)
    except BrokenFiles as error:
        faults.append(unreadable(xml, None, str(error).removeprefix(f"{xml}: ")))
        return Annotation(image, xml)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: the XML names a wrong encoding
        line = error.position[0] if isinstance(error, ElementTree.ParseError) else None
        faults.append(unreadable(xml, line, f"broken XML ({error}); write the file anew, or remove it"))
        return Annotation(image, xml)
    annotation = Annotation(image, xml)
    try:
        annotation.size = _size(tree)
    except ValueError:
        faults.append(annotation.fault("annotation-unreadable", "error", None, "its size is not a number of pixels"))
    objects = [node for node in tree if node.tag == "object"]
    lines = [number for number, line in enumerate(content.split(b"\n"), 1) for _ in re.findall(rb"<object\b", line)]
    for i, node in enumerate(objects):
        line = lines[i] if len(lines) == len(objects) else None
        name = (node.findtext("name") or "").strip("\n\t")
        corners = tuple(number(node.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax"))
        difficult = number((node.findtext("difficult") or "").strip() or 0)
        if not name.strip() or None in corners:
            why = "an object without a name, or without a bndbox of four numbers"
            faults.append(annotation.fault("annotation-unreadable", "error", line, why))
        elif difficult not in (0, 1):
            why = f"difficult is {node.findtext('difficult')!r}, but must be 0 or 1"
            faults.append(annotation.fault("annotation-unreadable", "error", line, why))
        else:
            annotation.add(corners, name, difficult == 1, line)
    return annotation


def _size(tree: ElementTree.Element) -> tuple[int, int] | None:
    """Return the height and width in the XML, or None if they are missing or 0, as some programs write them.

    Raises:
        ValueError: one of them is not a number of pixels.
    """
    height, width = (number((tree.findtext(f"size/{key}") or "").strip() or 0) for key in ("height", "width"))
    if height is None or width is None or min(height, width) < 0:
        raise ValueError
    return (int(height), int(width)) if height and width else None


def _data_set_folder(root: Path) -> Path:
    """Return `root`, or the only data set in it, as VOCdevkit/VOC2012."""
    inside = folders(root)
    if any(folder.name.lower() in (*ANNOTATIONS, *IMAGES) for folder in inside) or any(root.glob("*.[xX][mM][lL]")):
        return root
    if any(split_folders(root).values()):
        return root
    data_sets = [folder for folder in inside if any(f.name.lower() in ANNOTATIONS for f in folders(folder))]
    if len(data_sets) > 1:
        listed = ", ".join(folder.name for folder in data_sets)
        raise UserError(f"several data sets in {root} ({listed}); give one of them with --data.root")
    return data_sets[0] if data_sets else root


def _pairs(folder: Path) -> list[Pair]:
    """Match images and XML files by their paths below their folders, else by name, else by the name in the XML."""
    inside = {f.name.lower(): f for f in folders(folder)}
    xmls_in = next((inside[name] for name in ANNOTATIONS if name in inside), folder)
    images_in = next((inside[name] for name in IMAGES if name in inside), folder)
    xmls = sorted(path for path in files_below(xmls_in) if path.suffix.lower() == ".xml")
    pictures = images(images_in)
    by_path = {path.relative_to(images_in).with_suffix(""): path for path in pictures}
    by_name: dict[str, list[Path]] = {}
    for path in pictures:
        by_name.setdefault(path.stem, []).append(path)
    pairs: list[Pair] = []
    for xml in xmls:
        image = by_path.get(xml.relative_to(xmls_in).with_suffix("")) or _only(by_name.get(xml.stem))
        pairs.append((image or _only(by_name.get(_stem_inside(xml))), xml))
    matched = {image for image, _ in pairs}
    return sorted(pairs + [(p, None) for p in pictures if p not in matched], key=lambda pair: str(pair[0] or pair[1]))


def _only(paths: list[Path] | None) -> Path | None:
    return paths[0] if paths and len(paths) == 1 else None


def _stem_inside(xml: Path) -> str:
    try:
        match = re.search(rb"<filename>([^<]*)</filename>", read_bytes(xml, MAX_ANNOTATION_BYTES))
    except BrokenFiles:  # reading the boxes reports the error
        return ""
    return Path(match[1].decode(errors="replace").strip().replace("\\", "/")).stem if match else ""


def _split_lists(root: Path) -> dict[str, list[str]]:
    """Return the names in ImageSets/Main/*.txt; those of `trainval` only if there is no `train`."""
    sets = next((f for f in folders(root) if f.name.lower() == "imagesets"), None)
    if sets is None:
        return {}
    main = next((f for f in folders(sets) if f.name.lower() == "main"), sets)
    files = {path.stem.lower(): path for path in sorted(main.glob("*.txt"))}
    file_names = {**SPLITS, "train": (*SPLITS["train"], "trainval", "default")}
    lists = {split: next((files[n] for n in names if n in files), None) for split, names in file_names.items()}
    return {split: read_names(path) for split, path in lists.items() if path is not None}


def _select(pairs: list[Pair], names: list[str]) -> list[Pair]:
    """Return the pairs with the names in a list, as `2007_000027`, `subset/frame_1` or `a/b.jpg`."""
    by_name: dict[str, Pair] = {}
    for image, xml in pairs:
        for path in (image, xml):
            if path is not None:
                by_name.setdefault(path.stem, (image, xml))
                by_name.setdefault(path.name, (image, xml))
                by_name.setdefault("/".join(path.parts[-2:]), (image, xml))
                by_name.setdefault("/".join(path.with_suffix("").parts[-2:]), (image, xml))
    selected: list[Pair] = []
    for name in names:
        pair = by_name.get(name) or by_name.get("/".join(Path(name).parts[-2:])) or by_name.get(Path(name).name)
        selected.append(pair or (None, Path(name)))
    return selected


def _split_of_pair(pair: Pair, root: Path) -> str | None:
    """Return the split that the name of a folder between `root` and the file stands for."""
    path = pair[1] or pair[0]
    between = path.relative_to(root).parts[:-1]
    return next((split for name in between if (split := split_of(name))), None)
