"""Read boxes from YOLO's files: a text file for each image, with a line `class x y width height` for each box.

x and y are the centre of the box. All four numbers are shares (fractions of the image's width and height). A line with
more numbers is a polygon, `class x1 y1 x2 y2 x3 y3 ...`, and is read as the bounding box of the polygon.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from kit.data.decode import EXTENSIONS
from kit.formats.boxes.annotation import Annotation, Box, BoxFormat, Corners, Reading, no_annotation, no_image
from kit.formats.boxes.yolo_layout import CLASS_FILES, Layout, find
from kit.formats.folders import files_in
from kit.formats.paths import compose, decompose
from kit.formats.text import joined_class_faults, read_lines, unreadable_fault
from kit.ground.errors import BrokenFiles
from kit.ground.files import MAX_ANNOTATION_BYTES, is_file, read_ends

SEARCHED_BYTES = 4096  # the number of bytes that are searched at each end of a text file


class YoloBoxes(BoxFormat):
    """A data set in YOLO's format. The arguments are those of `yolo_layout.find`."""

    def __init__(self, root: Path, names: Sequence[str] | None) -> None:
        self.layout = find(root, names)
        self.sources = self.layout.splits

    def read(self, split: str) -> Reading:
        annotations: list[Annotation] = []
        faults = joined_class_faults(self.layout.class_names, "")
        image_folders: dict[Path, set[Path]] = {}  # from the folder of text files to the folders of their images
        for image in self.sources[split]:
            if not is_file(image):
                faults.append(no_image(image, "at this path, but a list names it"))
                continue
            text = _text_file(image)
            image_folders.setdefault(text.parent, set()).add(image.parent)
            annotation = Annotation(image, text, relative=True)
            if text.is_file():
                _parse(annotation, self.layout)
            else:
                faults.append(no_annotation(image, "without a text file it counts as an image without objects"))
            annotations.append(annotation)
        for text_folder, folders in sorted(image_folders.items()):
            stems = {compose(path.stem) for folder in folders for path in files_in(folder, EXTENSIONS)}
            # Text files beside images are not reported, since they may have another purpose.
            for text in files_in(text_folder, {".txt"}) if text_folder not in folders else ():
                if compose(text.stem) not in stems and text.name not in CLASS_FILES:
                    faults.append(no_image(text, f"{text.stem}.* that belongs to it"))
        return Reading(annotations, self.layout.class_names, faults)


def has_format(file: Path) -> bool:
    """Return whether a line in the first or last `SEARCHED_BYTES` bytes of a file is a box or a polygon."""
    lines = map(_numbers, read_ends(file, SEARCHED_BYTES).decode(errors="replace").splitlines())
    return any(label.is_integer() and len(values) > 3 for label, values in lines)


def _parse(annotation: Annotation, layout: Layout) -> None:
    """Add the boxes and faults in an annotation's text file to the annotation."""
    try:
        lines = list(read_lines(annotation.file, MAX_ANNOTATION_BYTES, max_chars=MAX_ANNOTATION_BYTES))
    except BrokenFiles as error:
        annotation.faults.append(unreadable_fault(annotation.file, error))
        return
    count = len(layout.class_names)
    for line_number, line in lines:
        label, values = _numbers(line)
        corners = _corners(values[:4] if layout.keypoints else values)
        if corners is None or not label.is_integer():
            why = f"'{line[:60]}' is neither a box, `class x y width height`, nor a polygon of 3 or more points"
            annotation.report("annotation-unreadable", why, line_number)
        elif not 0 <= label < count:
            annotation.report("class-unknown", f"class {label:.0f}, but classes are 0 to {count - 1}", line_number)
        else:
            annotation.boxes.append(Box(corners, layout.class_names[int(label)], line=line_number))


def _numbers(line: str) -> tuple[float, list[float]]:
    """Return the class and the other numbers of a line; nan and no numbers if a word is not a number."""
    if "_" in line:  # Python would read 1_0 as 10
        return math.nan, []
    try:
        label, *values = map(float, line.split())
    except ValueError:
        return math.nan, []
    return label, values


def _corners(values: list[float]) -> Corners | None:
    """Convert the numbers of a line to XYXY, or return None if they are neither a box nor a polygon."""
    if not all(map(math.isfinite, values)) or len(values) < 4 or len(values) % 2:
        return None
    if len(values) == 4:
        x, y, width, height = values
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])


def _text_file(image: Path) -> Path:
    """Return the path of an image's text file, or its usual path if there is no such file.

    These folders are searched in this order: the image's folder with `labels` or `Labels` in place of the last part
    `images` of its path; the image's folder; `labels` in the image's folder; `labels` beside the image's folder.
    """
    parts = image.parent.parts
    index = max((i for i, part in enumerate(parts) if part.lower() == "images"), default=None)
    labels = () if index is None else ("labels", "Labels")
    replaced = [Path(*parts[:index], name, *parts[index + 1 :]) for name in labels]
    others = [image.parent, image.parent / "labels", image.parent.parent / "labels"]
    stems = dict.fromkeys([image.stem, compose(image.stem), decompose(image.stem)])
    texts = [folder / f"{stem}.txt" for folder in (*replaced, *others) for stem in stems]
    return next(filter(is_file, texts), texts[0])
