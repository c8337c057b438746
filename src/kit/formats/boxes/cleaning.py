"""Turn annotated boxes into targets, and list the faults of those that cannot be used as they are."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kit.data.decode import orientation_of, upright_size
from kit.formats.boxes.annotation import Annotation, Box, Reading
from kit.formats.coco import crowds_alone
from kit.ground.errors import UserError, did_you_mean
from kit.ground.faults import Fault
from kit.ground.files import open_image
from kit.ground.threads import map_in_threads

TOLERANCE = 1.0  # pixels: formats count from 0 or from 1, and round
UNUSABLE = ("annotation-unreadable", "class-unknown")  # kinds of faults that stop a run
DROPPED = ("box-without-area", "box-wrong-unit")  # kinds of faults for which a box is left out
Size = tuple[int, int]


class BoxSplit(NamedTuple):
    """The annotated images of a split.

    targets: the target of each annotation, see `kit.boxes.targets`; without boxes if the image cannot be read.
    unreadable: the images that cannot be read.
    class_names: the names of the labels 1 to K.
    """

    annotations: list[Annotation]
    targets: list[dict[str, Any]]
    faults: list[Fault]
    unreadable: list[Path]
    class_names: Sequence[str]

    @property
    def paths(self) -> list[Path]:
        return [annotation.image for annotation in self.annotations]

    def count_faults(self) -> str:
        """Return the number of faults of each kind, as `box-out-of-bounds 3, box-duplicated 1`."""
        kinds = Counter(fault.kind for fault in self.faults)
        return ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())

    def crowds(self) -> dict[str, tuple[int, int]]:
        """Return, for each class with crowds, the number of its crowds and of all its boxes."""
        labels = torch.cat([torch.empty(0, dtype=torch.long), *(target["labels"] for target in self.targets)])
        is_crowd = torch.cat([torch.empty(0, dtype=torch.bool), *(target["crowd"] for target in self.targets)])
        size = len(self.class_names) + 1
        boxes, crowds = (torch.bincount(values, minlength=size).tolist() for values in (labels, labels[is_crowd]))
        return {name: (crowds[label], boxes[label]) for label, name in enumerate(self.class_names, 1) if crowds[label]}

    def why_unusable(self, split: str) -> str:
        """Return why too few boxes are left to train on or to measure.

        Returns:
            the reason, or an empty string if enough are left or no image can be read
        """
        if self.annotations and len(self.unreadable) == len(self.annotations):
            return ""  # the search for images that cannot be decoded gives a better message
        dropped = sum(fault.kind in DROPPED for fault in self.faults)
        counts = f" ({self.count_faults()})" if self.faults else ""
        if not self.targets:
            return f"most of {split} cannot be used{counts or ' (no images)'}"
        if sum(len(target["boxes"]) for target in self.targets) < dropped:
            return f"most of {split} cannot be used{counts}"
        if split == "train" and (alone := [name for name, (crowds, boxes) in self.crowds().items() if crowds == boxes]):
            return crowds_alone(alone)
        if split == "train" and not any(len(target["boxes"]) for target in self.targets):
            first = self.annotations[0]
            where = f"; the first image's were looked for in {first.file}" if first.file != first.image else ""
            return f"{split} has no box to learn from{counts}{where}"
        return ""

    def stop_if_unusable(self, split: str, root: Path) -> None:
        """Raise an error if the split cannot be used.

        Raises:
            UserError: an annotation cannot be used, or hardly any box is left.
        """
        for fault in self.faults:
            if fault.kind in UNUSABLE:
                line = f":{fault.line}" if fault.line else ""
                raise UserError(f"{fault.file}{line}: {fault.message}")
        if reason := self.why_unusable(split):
            raise UserError(f"{root}: {reason}")


def clean_split(reading: Reading, class_names: Sequence[str]) -> BoxSplit:
    """Return the targets of a split, and all of its faults. An image that cannot be read gets no boxes."""
    labels = {name: label for label, name in reversed(list(enumerate(class_names, 1)))}  # 0 is the background
    split = BoxSplit(reading.annotations, [], list(reading.faults), [], class_names)
    for annotation, header in zip(reading.annotations, read_headers(split.paths), strict=True):
        if header is None:
            split.unreadable.append(annotation.image)
            annotation, header = Annotation(annotation.image, annotation.file), ((1, 1), 1)
        target, faults = clean(annotation, header, labels)
        split.targets.append(target)
        split.faults.extend(faults)
    return split


def read_headers(images: Sequence[Path]) -> list[tuple[Size, int] | None]:
    """Return each image's upright height and width and its EXIF orientation, or None if it cannot be read."""
    return list(map_in_threads(_header, images))


def _header(path: Path) -> tuple[Size, int] | None:
    try:
        with open_image(path) as image:
            return upright_size(image), orientation_of(image)
    except Exception:  # broken files make PIL raise nearly anything; decoding the file later says what is wrong
        return None


def clean(
    annotation: Annotation, header: tuple[Size, int], labels: dict[str, int]
) -> tuple[dict[str, Any], list[Fault]]:
    """Return the target of an image, see `kit.boxes.targets`, and the faults of its boxes.

    Boxes with swapped corners are mended, turned images are taken into account, and boxes are clipped to the image.
    Boxes without area, wholly outside of the image, or of an unknown class are left out.

    Args:
        header: the image's entry in the result of `read_headers`.
        labels: the label of each class name.
    """
    size, orientation = header
    is_turned, faults = _check_size(annotation, header)
    kept: list[tuple[Box, int, bool]] = []
    seen: set[tuple] = set()
    for box, full_name, crowd, line in zip(
        annotation.boxes, annotation.names, annotation.crowd, annotation.lines, strict=True
    ):
        name = full_name.strip()
        if annotation.relative:
            box = box[0] * size[1], box[1] * size[0], box[2] * size[1], box[3] * size[0]
        upright = _turned(box, orientation, size) if is_turned else box
        clipped, problems = _clip(upright, size)
        if name not in labels:
            clipped, problems = None, []
            message = f"no class '{name}'{did_you_mean(name, labels)}"
            faults.append(annotation.fault("class-unknown", "error", line, message, upright))
        if clipped is not None:
            key = (name, *(round(2 * value) for value in clipped))
            if key in seen:
                problems.append(("box-duplicated", "warning", "is there twice; remove one"))
            seen.add(key)
            kept.append((clipped, labels[name], crowd))
        for kind, severity, text in problems:
            message = f"box ({', '.join(f'{value:.6g}' for value in box)}) of '{name}' {text}"
            faults.append(annotation.fault(kind, severity, line, message, upright))
    return {
        "boxes": torch.tensor([box for box, _, _ in kept], dtype=torch.float).reshape(-1, 4),
        "labels": torch.tensor([label for _, label, _ in kept], dtype=torch.long),
        "crowd": torch.tensor([crowd for _, _, crowd in kept], dtype=torch.bool),
        "size": size,
    }, faults


def _check_size(annotation: Annotation, header: tuple[Size, int]) -> tuple[bool, list[Fault]]:
    """Return whether boxes are for the image as it is stored, before EXIF turns it, and the faults of its size.

    The size in the annotation shows this.
    """
    size, orientation = header
    if annotation.size in (None, size):
        # If the image is square, its size is the same before and after it is turned.
        is_known = orientation > 4 and annotation.size is not None and size[0] != size[1]
        if is_known or orientation not in range(2, 9) or not annotation.boxes:
            return False, []
        message = "EXIF turns or mirrors it; its boxes are taken as drawn on the upright image; look at one of these"
        return False, [annotation.fault("exif-rotated-boxes", "warning", None, message)]
    if orientation > 4 and annotation.size == size[::-1]:
        message = "made on the image as it lies in the file, which EXIF turns; so are the boxes here, not everywhere"
        return True, [annotation.fault("exif-rotated-boxes", "warning", None, message)]
    (height, width), (real_height, real_width) = annotation.size, size
    message = f"made for an image {width} wide and {height} high, but it is {real_width} wide and {real_height} high"
    return False, [annotation.fault("size-mismatch", "error", None, message)]


def _clip(box: Box, size: Size) -> tuple[Box | None, list[tuple[str, Any, str]]]:
    """Return the box within the image, or None, and its problems: the kind, severity and message of each."""
    problems: list[tuple[str, Any, str]] = []
    x1, y1, x2, y2 = box
    if x2 < x1 or y2 < y1:
        x1, y1, x2, y2 = min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
        problems.append(("box-corners-swapped", "warning", "has its corners swapped; swapped back here"))
    if x2 <= x1 or y2 <= y1:
        return None, [*problems, ("box-without-area", "warning", "has no area; left out here")]
    height, width = size
    clipped = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    image = f"the image, {width} wide and {height} high"
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        return None, [*problems, ("box-out-of-bounds", "error", f"lies outside {image}; left out here")]
    if max(-x1, -y1, x2 - width, y2 - height) > TOLERANCE:
        problems.append(("box-out-of-bounds", "warning", f"sticks out of {image}; cut here"))
    return clipped, problems


def _turned(box: Box, orientation: int, size: Size) -> Box:
    """Turn a box of the stored image upright, by an EXIF orientation from 5 to 8."""
    height, width = size  # upright
    x1, y1, x2, y2 = box
    if orientation == 5:
        return y1, x1, y2, x2
    if orientation == 6:
        return width - y2, x1, width - y1, x2
    if orientation == 7:
        return width - y2, height - x2, width - y1, height - x1
    return y1, height - x2, y2, height - x1
