"""From boxes as they are written to boxes that can be used, and what is wrong with those that cannot."""

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from project import nearest
from project.checks import Fault
from project.detection.formats.annotation import Annotation, Box
from project.pipeline.decode import EXIF_ORIENTATION, upright_size

TOLERANCE = 1.0  # pixels: formats count from 0 or from 1, and round
Size = tuple[int, int]


def headers(images: Sequence[Path]) -> list[tuple[Size, int] | None]:
    """Each file's upright height and width, and how EXIF turns it; None where it cannot be read as an image."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(_header, images, chunksize=64))


def _header(path: Path) -> tuple[Size, int] | None:
    try:
        with Image.open(path) as image:
            return upright_size(image), image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # broken files break PIL in many ways; reading their pixels says which
        return None


def usable(
    annotation: Annotation, header: tuple[Size, int], class_names: Sequence[str]
) -> tuple[dict[str, Any], list[Fault]]:
    """The target of an image, see `project.detection.targets`, and the faults of its boxes.

    Boxes are swapped, turned and clipped into place where that is plain; those without area, wholly outside or of an
    unknown class are left out.
    """
    size, orientation = header
    faults: list[Fault] = []

    def fault(kind: str, severity: Any, message: str, line: int | None = None) -> None:
        faults.append(Fault(kind, severity, str(annotation.file), line, message))

    turned = False
    if annotation.size not in (None, size):
        turned = orientation > 4 and annotation.size == size[::-1]
        if turned:
            fault("exif-rotated-boxes", "warning", "made on the image as it lies in the file, which EXIF turns; so are "
                  "its boxes here, but other programs may not do that")  # fmt: skip
        else:
            written, real = ("x".join(map(str, reversed(s))) for s in (annotation.size, size))
            fault("size-mismatch", "error", f"made for an image of {written}, but the image is {real} (width x height)")
    boxes: list[Box] = []
    labels: list[int] = []
    crowd: list[bool] = []
    seen: set[tuple] = set()
    for box, name, of_crowd, line in zip(
        annotation.boxes, annotation.names, annotation.crowd, annotation.lines, strict=True
    ):
        name = name.strip()
        if name not in class_names:
            fault("class-unknown", "error", f"no class '{name}'{nearest(name, class_names)}", line)
            continue
        if annotation.relative:
            width, height = size[::-1]
            box = box[0] * width, box[1] * height, box[2] * width, box[3] * height
        said = f"box {_text(box)} of '{name}'"
        if box[2] < box[0] or box[3] < box[1]:
            box = min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])
            fault("box-corners-swapped", "warning", f"{said}: its corners are swapped; taken as {_text(box)}", line)
        if turned:
            box = _turned(box, orientation, size)
        if box[2] <= box[0] or box[3] <= box[1]:
            fault("box-without-area", "warning", f"{said} has no area; left out", line)
            continue
        clipped = max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(size[1])), min(box[3], float(size[0]))
        if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
            fault("box-out-of-bounds", "error", f"{said} lies outside the image of {size[1]}x{size[0]}; left out", line)
            continue
        if max(abs(a - b) for a, b in zip(box, clipped, strict=True)) > TOLERANCE:
            fault("box-out-of-bounds", "warning", f"{said} sticks out of the image of {size[1]}x{size[0]}; cut", line)
        place = (name, *(round(2 * value) for value in clipped))
        if place in seen:
            fault("box-duplicated", "warning", f"{said} is there twice; remove one", line)
        seen.add(place)
        boxes.append(clipped)
        labels.append(class_names.index(name) + 1)
        crowd.append(of_crowd)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.long),
        "crowd": torch.tensor(crowd, dtype=torch.bool),
        "size": size,
    }, faults


def spelled_twice(names: Iterable[str], file: Path) -> list[Fault]:
    """Classes that differ in nothing but capitals, spaces, hyphens or underscores.

    Args:
        names: as written.
        file: where the message shall point.
    """
    spellings: dict[str, set[str]] = {}
    for name in names:
        plain = "".join(name.casefold().replace("_", " ").replace("-", " ").split())
        spellings.setdefault(plain, set()).add(name)
    return [
        Fault("class-spelled-twice", "error", str(file), None,
              f"one class in {len(several)} spellings: {', '.join(map(repr, sorted(several)))}; choose one")
        for several in spellings.values() if len(several) > 1
    ]  # fmt: skip


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


def _text(box: Box) -> str:
    return f"({', '.join(f'{value:.6g}' for value in box)})"


def finite(values: Iterable[float]) -> bool:
    return all(math.isfinite(value) for value in values)
