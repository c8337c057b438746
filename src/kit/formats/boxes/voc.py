"""Pascal VOC: an XML file for each image.

Corners are taken as they are written. VOC's own count pixels from 1 and include the last, others from 0: the
difference is at most one pixel, and no file says which it is. `difficult` objects are read as crowds, which VOC's own
evaluation ignores too.
"""

import re
from pathlib import Path
from xml.etree import ElementTree

from kit.formats.boxes.annotation import Annotation, Reading, missing_annotation, missing_image, unreadable
from kit.formats.boxes.mending import without_shares
from kit.formats.coco import number
from kit.formats.folders import SPLITS, files_below, folders, images, split_folders, split_of
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.faults import Fault
from kit.ground.reading import MOST_OF_ANNOTATION, MOST_OF_LIST, read_bytes, read_text

ANNOTATIONS = ("annotations", "annotation", "xmls", "xml", "labels")
IMAGES = ("jpegimages", "images", "image", "imgs", "img")
Pair = tuple[Path | None, Path | None]


def find(root: Path) -> dict[str, list[Pair]]:
    """For each part the pairs of an image and its XML file, either of which may be missing.

    `Annotations/`, `JPEGImages/` and, if there are any, `ImageSets/Main/{train,val,test,trainval}.txt`; the parts'
    own folders, with the XML beside the images or in folders as above; or all in one folder.
    """
    root = _home(root)
    parts = {split: folder for split, folder in split_folders(root).items() if folder is not None}
    if parts:
        return {split: _pairs(folder) for split, folder in parts.items()}
    pairs = _pairs(root)
    listed = _lists(root)
    if listed:
        return {split: _picked(pairs, names) for split, names in listed.items()}
    below = {split: [p for p in pairs if _part(p, root) == split] for split in SPLITS}
    if any(below.values()):  # Annotations/train/*.xml
        return {split: some for split, some in below.items() if some}
    if not any(xml for _, xml in pairs):
        raise UserError(f"no XML files in {root}; expected {root}/Annotations/*.xml, or train/*.xml, or *.xml")
    return {"train": pairs}


def read(pairs: list[Pair]) -> Reading:
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
    annotations = without_shares(annotations, faults)
    return Reading(annotations, sorted(names, key=str.strip), faults)


def _parse(xml: Path, image: Path, faults: list[Fault]) -> Annotation:
    try:
        content = read_bytes(xml, MOST_OF_ANNOTATION)
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
    for place, node in enumerate(objects):
        line = lines[place] if len(lines) == len(objects) else None
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
    """Return the height and width that the XML gives, or None if they are missing or 0, as some programs write them.

    Raises:
        ValueError: one of them is not a number of pixels.
    """
    height, width = (number((tree.findtext(f"size/{key}") or "").strip() or 0) for key in ("height", "width"))
    if height is None or width is None or min(height, width) < 0:
        raise ValueError
    return (int(height), int(width)) if height and width else None


def _home(root: Path) -> Path:
    """`root`, or the only folder in it: VOCdevkit/VOC2012."""
    inside = folders(root)
    if any(folder.name.lower() in (*ANNOTATIONS, *IMAGES) for folder in inside) or any(root.glob("*.[xX][mM][lL]")):
        return root
    if any(split_folders(root).values()):
        return root
    homes = [folder for folder in inside if any(f.name.lower() in ANNOTATIONS for f in folders(folder))]
    if len(homes) > 1:
        several = ", ".join(folder.name for folder in homes)
        raise UserError(f"several data sets in {root} ({several}); give one of them with --data.root")
    return homes[0] if homes else root


def _pairs(folder: Path) -> list[Pair]:
    """Matched by their paths below their folders, else by their names alone, else by what the XML says."""
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
    taken = {image for image, _ in pairs}
    return sorted(pairs + [(p, None) for p in pictures if p not in taken], key=lambda pair: str(pair[0] or pair[1]))


def _only(paths: list[Path] | None) -> Path | None:
    return paths[0] if paths and len(paths) == 1 else None


def _stem_inside(xml: Path) -> str:
    try:
        found = re.search(rb"<filename>([^<]*)</filename>", read_bytes(xml, MOST_OF_ANNOTATION))
    except BrokenFiles:  # reading the boxes will report the error
        return ""
    return Path(found[1].decode(errors="replace").strip().replace("\\", "/")).stem if found else ""


def _lists(root: Path) -> dict[str, list[str]]:
    """The names in ImageSets/Main/*.txt; `trainval` only where there is no `train`."""
    sets = next((f for f in folders(root) if f.name.lower() == "imagesets"), None)
    if sets is None:
        return {}
    main = next((f for f in folders(sets) if f.name.lower() == "main"), sets)
    files = {path.stem.lower(): path for path in sorted(main.glob("*.txt"))}
    known = {**SPLITS, "train": (*SPLITS["train"], "trainval", "default")}
    found = {split: next((files[n] for n in names if n in files), None) for split, names in known.items()}
    return {
        split: [line.split()[0] for line in read_text(path, MOST_OF_LIST).splitlines() if line.strip()]
        for split, path in found.items()
        if path is not None
    }


def _picked(pairs: list[Pair], names: list[str]) -> list[Pair]:
    """The pairs that a list names: `2007_000027`, `subset/frame_1` or `a/b.jpg`."""
    by_name: dict[str, Pair] = {}
    for image, xml in pairs:
        for path in (image, xml):
            if path is not None:
                by_name.setdefault(path.stem, (image, xml))
                by_name.setdefault(path.name, (image, xml))
                by_name.setdefault("/".join(path.parts[-2:]), (image, xml))
                by_name.setdefault("/".join(path.with_suffix("").parts[-2:]), (image, xml))
    found = [by_name.get(name) or by_name.get("/".join(Path(name).parts[-2:])) or by_name.get(Path(name).name)
             for name in names]  # fmt: skip
    return [pair or (None, Path(name)) for pair, name in zip(found, names, strict=True)]


def _part(pair: Pair, root: Path) -> str | None:
    """The split whose name a folder between `root` and the file has."""
    path = pair[1] or pair[0]
    between = path.relative_to(root).parts[:-1]
    return next((split for part in between if (split := split_of(part))), None)
