"""From boxes as they are written to boxes that can be used, and what is wrong with those that cannot."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from kit.data.decode import orientation_of, upright_size
from kit.formats.boxes.annotation import Annotation, Box
from kit.ground.errors import nearest
from kit.ground.faults import Fault
from kit.ground.reading import open_image
from kit.ground.threads import in_threads

TOLERANCE = 1.0  # pixels: formats count from 0 or from 1, and round
ROUNDING = 1e-3  # of shares of the image
Size = tuple[int, int]


def headers(images: Sequence[Path]) -> list[tuple[Size, int] | None]:
    """Each file's upright height and width, and how EXIF turns it; None where it cannot be read as an image."""
    return list(in_threads(_header, images))


def _header(path: Path) -> tuple[Size, int] | None:
    try:
        with open_image(path) as image:
            return upright_size(image), orientation_of(image)
    except Exception:  # broken files break PIL in many ways; reading their pixels says which
        return None


def usable(
    annotation: Annotation, header: tuple[Size, int], labels: dict[str, int]
) -> tuple[dict[str, Any], list[Fault]]:
    """The target of an image, see `kit.boxes.targets`, and the faults of its boxes.

    Boxes are swapped, turned and clipped into place where that is plain; those without area, wholly outside or of an
    unknown class are left out.

    Args:
        header: of the image, from `headers`.
        labels: of the classes, by name.
    """
    size, orientation = header
    turned, faults = _compared(annotation, header)
    kept: list[tuple[Box, int, bool]] = []
    seen: set[tuple] = set()
    for box, written, crowd, line in zip(
        annotation.boxes, annotation.names, annotation.crowd, annotation.lines, strict=True
    ):
        name = written.strip()
        if annotation.relative:
            box = box[0] * size[1], box[1] * size[0], box[2] * size[1], box[3] * size[0]
        upright = _turned(box, orientation, size) if turned else box
        placed, wrong = _placed(upright, size)
        if name not in labels:
            placed, wrong = None, []
            message = f"no class '{name}'{nearest(name, labels)}"
            faults.append(annotation.fault("class-unknown", "error", line, message, upright))
        if placed is not None:
            place = (name, *(round(2 * value) for value in placed))
            if place in seen:
                wrong.append(("box-duplicated", "warning", "is there twice; remove one"))
            seen.add(place)
            kept.append((placed, labels[name], crowd))
        for kind, severity, text in wrong:
            message = f"box ({', '.join(f'{value:.6g}' for value in box)}) of '{name}' {text}"
            faults.append(annotation.fault(kind, severity, line, message, upright))
    return {
        "boxes": torch.tensor([box for box, _, _ in kept], dtype=torch.float).reshape(-1, 4),
        "labels": torch.tensor([label for _, label, _ in kept], dtype=torch.long),
        "crowd": torch.tensor([crowd for _, _, crowd in kept], dtype=torch.bool),
        "size": size,
    }, faults


def _compared(annotation: Annotation, header: tuple[Size, int]) -> tuple[bool, list[Fault]]:
    """Whether boxes were made on the image as it lies in its file, by the size that is written; and what is wrong."""
    size, orientation = header
    if annotation.size in (None, size):
        told = orientation > 4 and annotation.size is not None and size[0] != size[1]  # both ways up have one size
        if told or orientation not in range(2, 9) or not annotation.boxes:
            return False, []
        message = "EXIF turns or mirrors it; its boxes are taken as drawn on the upright image; look at one of these"
        return False, [annotation.fault("exif-rotated-boxes", "warning", None, message)]
    turned = orientation > 4 and annotation.size == size[::-1]
    if turned:
        message = "made on the image as it lies in the file, which EXIF turns; so are the boxes here, not everywhere"
        return True, [annotation.fault("exif-rotated-boxes", "warning", None, message)]
    (height, width), (real_height, real_width) = annotation.size, size
    message = f"made for an image {width} wide and {height} high, but it is {real_width} wide and {real_height} high"
    return False, [annotation.fault("size-mismatch", "error", None, message)]


def _placed(box: Box, size: Size) -> tuple[Box | None, list[tuple[str, Any, str]]]:
    """A box within the image, or None; and what is wrong with it: kind, severity, and what to say."""
    wrong: list[tuple[str, Any, str]] = []
    x1, y1, x2, y2 = box
    if x2 < x1 or y2 < y1:
        x1, y1, x2, y2 = min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
        wrong.append(("box-corners-swapped", "warning", "has its corners swapped; swapped back here"))
    if x2 <= x1 or y2 <= y1:
        return None, [*wrong, ("box-without-area", "warning", "has no area; left out here")]
    height, width = size
    clipped = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    of = f"the image, {width} wide and {height} high"
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        return None, [*wrong, ("box-out-of-bounds", "error", f"lies outside {of}; left out here")]
    if max(-x1, -y1, x2 - width, y2 - height) > TOLERANCE:
        wrong.append(("box-out-of-bounds", "warning", f"sticks out of {of}; cut here"))
    return clipped, wrong


def without_shares(annotations: list[Annotation], faults: list[Fault]) -> list[Annotation]:
    """Without the boxes of images, or all, that are written in shares of the image, 0 to 1, where pixels belong."""
    all_of_them = _like_shares([box for annotation in annotations for box in annotation.boxes])
    kept = []
    for annotation in annotations:
        if all_of_them or _like_shares(annotation.boxes):
            for box, name, line in zip(annotation.boxes, annotation.names, annotation.lines, strict=True):
                written = ", ".join(f"{value:.6g}" for value in box)
                message = f"box ({written}) of '{name}' looks like shares of the image, not pixels; left out"
                faults.append(annotation.fault("box-wrong-unit", "error", line, message))
            annotation = Annotation(annotation.image, annotation.file, annotation.size)
        kept.append(annotation)
    return kept


def _like_shares(boxes: Sequence[Box]) -> bool:
    """Whole numbers alone would be boxes of one pixel."""
    values = [value for box in boxes for value in box]
    within = all(-ROUNDING <= value <= 1 + ROUNDING for value in values)
    return within and not all(value.is_integer() for value in values)


def _turned(box: Box, orientation: int, size: Size) -> Box:
    """A box of the image as it lies in the file, turned with it as EXIF says (orientations 5 to 8)."""
    height, width = size  # upright
    x1, y1, x2, y2 = box
    if orientation == 5:
        return y1, x1, y2, x2
    if orientation == 6:
        return width - y2, x1, width - y1, x2
    if orientation == 7:
        return width - y2, height - x2, width - y1, height - x1
    return y1, height - x2, y2, height - x1


def finite(values: Iterable[float]) -> bool:
    return all(math.isfinite(value) for value in values)
