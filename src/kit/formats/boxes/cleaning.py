"""Convert the annotated boxes of a split to targets, and list their faults."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kit.data.decode import read_upright_size
from kit.formats.boxes.annotation import TOLERANCE, Annotation, BoxRow, Corners, PackedTargets, Reading, Size
from kit.formats.coco import count_crowds, only_crowds_problem
from kit.formats.text import describe_size
from kit.ground.errors import BrokenFiles, UserError, did_you_mean
from kit.ground.faults import KINDS, Fault
from kit.ground.threads import map_files

MAX_SHARE = 1.001  # boxes with larger values are not in shares (fractions of the image's height and width)
MAX_DISTANCE = 2  # a coordinate that is farther than this from the centre, 0.5, is in pixels, not in shares
DROPPED_KINDS = ("box-without-area", "box-wrong-unit")  # kinds of faults for which a box is always left out
STOPPING_KINDS = ("annotation-unreadable", "class-unknown")  # kinds of faults that stop a run


class BoxSplit(NamedTuple):
    """A split with the targets of its images.

    targets: the target of each image, see `kit.boxes.targets`. Images that cannot be read have no boxes.
    faults: all faults of the split.
    unreadable: the images that cannot be read.
    class_names: the names of the labels 1 to K.
    """

    annotations: list[Annotation]
    targets: PackedTargets
    faults: list[Fault]
    unreadable: list[Path]
    class_names: Sequence[str]

    @property
    def paths(self) -> list[Path]:
        return [annotation.image for annotation in self.annotations]

    def count_faults(self) -> str:
        """Return how often each kind of fault occurs, the most frequent kind first: `box-out-of-bounds 7, crowd 1`."""
        return ", ".join(f"{kind} {count}" for kind, count in Counter(f.kind for f in self.faults).most_common())

    def crowds(self) -> dict[str, tuple[int, int]]:
        """Return (number of crowds, number of boxes) for each class that has crowds."""
        labels, crowd = self.targets.labels.tolist(), self.targets.crowd.tolist()
        return count_crowds(zip((self.class_names[label - 1] for label in labels), crowd, strict=True))

    def why_unusable(self, split: str) -> str:
        """Return why the split must not be used, or "" if it can be used or no image can be read.

        A split must not be used if it has no images, or most of its boxes have a fault in `DROPPED_KINDS`. Train must
        also have a usable box, and no class whose boxes are all crowds.
        """
        if self.annotations and len(self.unreadable) == len(self.annotations):
            return ""  # decoding the images will raise an error with a better message
        counts = f" ({self.count_faults()}); the first fault is {_text(self.faults[0])}" if self.faults else ""
        boxes = len(self.targets.boxes)
        if not self.targets or boxes < sum(fault.kind in DROPPED_KINDS for fault in self.faults):
            return f"most of {split} cannot be used{counts or ' (no images)'}"
        if split != "train":
            return ""
        if problem := only_crowds_problem(self.crowds()):
            return problem
        first = self.annotations[0]
        where = f"; the first image's should be in {first.file}" if first.file != first.image else ""
        return "" if boxes else f"{split} has no box to learn from{counts}{where}"

    def stop_if_unusable(self, split: str, root: Path) -> None:
        """Raise `BrokenFiles` for a fault in `STOPPING_KINDS`, or `UserError` for the reason of `why_unusable`."""
        for fault in self.faults:
            if fault.kind in STOPPING_KINDS:
                raise BrokenFiles(_text(fault))
        if reason := self.why_unusable(split):
            raise UserError(f"{root}: {reason}")


def _text(fault: Fault) -> str:
    """Return a fault as `FILE:LINE: MESSAGE`."""
    return f"{fault.file}{f':{fault.line}' if fault.line else ''}: {fault.message}"


def clean_split(reading: Reading, class_names: Sequence[str]) -> BoxSplit:
    """Convert the annotations of a split to targets, and free the boxes of the reading to save memory.

    An image that cannot be read gets no boxes. `class_names` are the names of the labels 1 to K.
    """
    labels = {name: label for label, name in reversed(list(enumerate(class_names, 1)))}  # the first of equal names wins
    faults, unreadable = list(reading.faults), list[Path]()
    # Read all headers before converting any boxes: threads that read headers would slow down the conversion.
    headers = list(map_files(read_upright_size, [annotation.image for annotation in reading.annotations]))

    def targets() -> Iterator[tuple[list[BoxRow], Size]]:
        for annotation, header in zip(reading.annotations, headers, strict=True):
            if header is None:
                unreadable.append(annotation.image)
                annotation.boxes, annotation.size = [], None
            size, orientation = header or ((1, 1), 1)
            yield _rows(annotation, size, orientation, labels), size
            annotation.boxes = []
            faults.extend(annotation.faults)

    return BoxSplit(reading.annotations, PackedTargets.of(targets()), faults, unreadable, class_names)


def _rows(annotation: Annotation, size: Size, orientation: int, labels: dict[str, int]) -> list[BoxRow]:
    """Return the usable boxes of an image, and add the faults of its boxes to the annotation.

    Swapped corners are swapped back. Boxes of the stored image are turned as EXIF turns the image. Boxes are clipped to
    the image. Boxes without area, outside the image, in a wrong unit, or of an unknown class are left out.

    Args:
        size: the height and width of the image that EXIF has turned upright.
        orientation: the image's EXIF orientation, 1 to 8; 1 is upright.
        labels: the label of each class name.
    """
    is_turned = _check_orientation(annotation, size, orientation)
    y_scale, x_scale = size if annotation.relative else (1, 1)
    rows: list[BoxRow] = []
    keys: set[tuple[int, ...]] = set()  # the label and the corners of each box in `rows`, in half pixels
    for box in annotation.boxes:
        name, (x1, y1, x2, y2) = box.name, box.corners
        corners = x1 * x_scale, y1 * y_scale, x2 * x_scale, y2 * y_scale
        upright = _turn_upright(corners, orientation, size) if is_turned else corners
        clipped, problems = _clip(upright, size)
        if name not in labels:
            clipped, problems = None, [("class-unknown", f"is of no known class{did_you_mean(name, labels)}")]
        elif _is_wrong_unit(box.corners, annotation.relative):
            units = "pixels, not shares of the image" if annotation.relative else "shares of the image, not pixels"
            corners = upright = box.corners  # not scaled, since they may be pixels already
            clipped, problems = None, [("box-wrong-unit", f"looks like {units}; left out here")]
        if clipped is not None:
            x1, y1, x2, y2 = clipped
            key = labels[name], round(2 * x1), round(2 * y1), round(2 * x2), round(2 * y2)
            if key in keys:
                problems.append(("box-duplicated", "is annotated twice; remove one"))
            keys.add(key)
            rows.append((clipped, labels[name], box.crowd))
        for kind, text in problems:
            message = f"box ({', '.join(f'{value:.6g}' for value in corners)}) of '{name}' {text}"
            severity = "error" if clipped is None and kind == "box-out-of-bounds" else KINDS[kind]
            annotation.report(kind, message, box.line, severity=severity, box=upright)
    return rows


def _is_wrong_unit(corners: Corners, relative: bool) -> bool:
    """Return whether a box seems to be in pixels instead of shares of the image, or in shares instead of pixels."""
    if relative:
        return max(abs(value - 0.5) for value in corners) > MAX_DISTANCE
    are_shares = max(corners) <= MAX_SHARE and min(corners) >= 1 - MAX_SHARE
    return are_shares and not all(float(value).is_integer() for value in corners)  # the box 0 0 1 1 may be one pixel


def _check_orientation(annotation: Annotation, size: Size, orientation: int) -> bool:
    """Return whether the boxes refer to the stored image, which EXIF turns. Report faults of the annotated size.

    They do if EXIF swaps height and width, and the annotated size is the size of the stored image.
    """
    is_turned = orientation > 4 and annotation.size == size[::-1] != size
    # The annotated size tells the stored image from the upright one, if their sizes differ.
    is_frame_known = orientation > 4 and annotation.size is not None and size[0] != size[1]
    if is_turned:
        annotation.report("exif-rotated-boxes", "EXIF turns the image; boxes are turned here, but not by all programs")
    elif annotation.size not in (None, size):
        sizes = f"{describe_size(size)}, but {describe_size(annotation.size)} in the annotation"
        annotation.report("size-mismatch", f"the image is {sizes}")
    elif orientation != 1 and annotation.boxes and not is_frame_known:
        annotation.report("exif-rotated-boxes", "EXIF turns the image; its boxes are assumed to fit the upright image")
    return is_turned


def _clip(box: Corners, size: Size) -> tuple[Corners | None, list[tuple[str, str]]]:
    """Return the part of a box inside the image, or None, and the kind and the message of each problem."""
    height, width = size
    if 0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height:
        return box, []  # a fast path, since there may be millions of boxes
    problems: list[tuple[str, str]] = []
    x1, x2 = sorted(box[::2])
    y1, y2 = sorted(box[1::2])
    if (x1, y1, x2, y2) != box:
        problems.append(("box-corners-swapped", "has its corners swapped; swapped back here"))
    if x2 <= x1 or y2 <= y1:
        return None, [*problems, ("box-without-area", "has no area; left out here")]
    clipped = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    image = f"the image, {describe_size(size)}"
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        return None, [*problems, ("box-out-of-bounds", f"lies outside {image}; left out here")]
    if max(-x1, -y1, x2 - width, y2 - height) > TOLERANCE:
        problems.append(("box-out-of-bounds", f"sticks out of {image}; cut here"))
    return clipped, problems


def _turn_upright(box: Corners, orientation: int, size: Size) -> Corners:
    """Turn a box of the stored image upright, by an EXIF orientation from 5 to 8."""
    height, width = size  # the size of the upright image
    y1, x1, y2, x2 = box  # all four orientations swap x and y
    if orientation in (6, 7):
        x1, x2 = width - x2, width - x1
    if orientation in (7, 8):
        y1, y2 = height - y2, height - y1
    return x1, y1, x2, y2
