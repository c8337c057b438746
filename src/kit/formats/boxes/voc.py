"""Read boxes from Pascal VOC's files: an XML file for each image, which `kit.formats.pairs` finds.

Corners are used as they are written. Pascal VOC counts pixels from 1 and includes the last pixel, and some programs
count from 0. A file does not say how it counts; the difference is at most one pixel. `difficult` objects are read as
crowds (see `kit.boxes.targets`), which the metrics ignore, as Pascal VOC's evaluation does.
"""

import re
from pathlib import Path

from kit.formats.boxes.annotation import Annotation, Box, BoxFormat, Reading, no_annotation, no_image
from kit.formats.pairs import XML_FILES, find_pairs
from kit.formats.text import number, read_xml, unreadable_fault
from kit.ground.errors import BrokenFiles
from kit.ground.faults import Fault
from kit.ground.files import is_file, read_ends

SEARCHED_BYTES = 4096  # the number of bytes that are searched at each end of a file


class VocBoxes(BoxFormat):
    """A data set in Pascal VOC's format."""

    def __init__(self, root: Path) -> None:
        self.sources = find_pairs(root, XML_FILES)

    def read(self, split: str) -> Reading:
        pairs, faults = self.sources[split], list[Fault]()
        for image in pairs.lone_images:
            if is_file(image):
                faults.append(no_annotation(image, "without an XML file it is left out"))
            else:
                faults.append(no_image(image, f"{image.name}.*, but a list names it"))
        faults += [no_image(xml, f"{xml.stem}.* beside it or in the folder of images") for xml in pairs.lone_files]
        annotations = [_parse(image, xml) for image, xml in zip(pairs.images, pairs.files, strict=True)]
        names = {box.name for annotation in annotations for box in annotation.boxes}
        return Reading(annotations, sorted(names), faults)


def has_format(file: Path) -> bool:
    """Return whether a file seems to be an XML file with an `annotation`."""
    return bool(re.search(rb"<annotation[\s>]", read_ends(file, SEARCHED_BYTES)))


def _parse(image: Path, xml: Path) -> Annotation:
    """Return the boxes and faults in an XML file."""
    annotation = Annotation(image, xml)
    try:
        tree, text = read_xml(xml)
    except BrokenFiles as error:
        annotation.faults.append(unreadable_fault(xml, error))
        return annotation
    height, width = (number((tree.findtext(f"size/{key}") or "").strip() or 0) for key in ("height", "width"))
    if height is None or width is None or min(height, width) < 0:
        annotation.report("annotation-unreadable", "its size is not a number of pixels")
    elif height and width:  # some programs write 0
        annotation.size = int(height), int(width)
    objects = tree.findall("object")
    # The line of each object. If comments contain objects, the counts differ, and no line is known.
    lines = [row for row, line in enumerate(text.split("\n"), 1) for _ in re.findall(r"<object\b", line)]
    for i, node in enumerate(objects):
        line = lines[i] if len(lines) == len(objects) else None
        name = (node.findtext("name") or "").strip()
        corners = tuple(number(node.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax"))
        difficult = number((node.findtext("difficult") or "").strip() or 0)
        if name and None not in corners and difficult in (0, 1):
            annotation.boxes.append(Box(corners, name, difficult == 1, line))
        else:
            why = "an object needs a name, a bndbox of four numbers, and a `difficult` of 0 or 1"
            annotation.report("annotation-unreadable", why, line)
    return annotation
