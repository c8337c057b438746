"""What masks get wrong: found by reading each once, with several threads, and raising nothing."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from kit.formats.complaints import crowd_faults, joined_faults
from kit.formats.folders import images
from kit.formats.masks.coco import CocoShapes, Document, Drawing, Shape
from kit.formats.masks.layouts import Pairs
from kit.formats.masks.mask_images import MaskImages, values_of
from kit.formats.masks.masks import IGNORED, UNKNOWN, as_seen, misfits, size_in_words, sizes_of
from kit.ground.errors import UserError
from kit.ground.faults import Fault, Severity
from kit.ground.threads import in_threads

STICKS_OUT = 1.0  # pixels by which a corner may: tools round


def of_pairs(pairs: Pairs, reader: MaskImages, alone: Severity = "error") -> Iterator[Fault]:
    """Of a split's images and mask files. alone: how bad an image without a mask is."""
    for image in pairs.lone_images:
        yield Fault("mask-missing", alone, str(image), None, "an image without a mask; add it, or remove the image")
    for mask in pairs.lone_masks:
        yield Fault("image-missing", "warning", str(mask), None, "a mask without an image; add it, or remove the mask")
    for faults in in_threads(lambda pair: _of_mask(*pair, reader), zip(pairs.images, pairs.masks, strict=True)):
        yield from faults


def _of_mask(image: Path, mask: Path, reader: MaskImages) -> list[Fault]:
    try:
        found = values_of(mask)
    except UserError as error:
        return [Fault("annotation-unreadable", "error", str(mask), None, _without_file(error, mask))]
    if found.jpeg:
        return [Fault("mask-is-jpeg", "error", str(mask), None, "JPEG changes the ids near edges; save masks as PNG")]
    classes, faults = reader.classes(found), []
    if (classes == UNKNOWN).any():
        coloured = found.values.ndim == 3
        kind = "mask-colour-unknown" if coloured else "mask-id-unknown"
        faults.append(Fault(kind, "error", str(mask), None, reader.complaint(found, classes)))
    return faults + _of_size_and_content(classes, image, str(mask))


def of_document(document: Document, reader: CocoShapes) -> Iterator[Fault]:
    """Of a split's JSON."""
    file = str(document.file)
    for lost in document.lost:
        yield Fault(lost.kind, "error", file, None, f"{lost.what}: {lost.why}; it is left out")
    yield from joined_faults(document.joined, file)
    if reader.crowds == "ignore":
        yield from crowd_faults(document.crowds(), file)
    for drawing in document.drawings:
        if not drawing.image.is_file():
            yield Fault("image-missing", "error", str(drawing.image), None, f"no such file, but {file} lists it")
    present = [drawing for drawing in document.drawings if drawing.image.is_file()]
    for faults in in_threads(lambda drawing: _of_drawing(drawing, reader), present):
        yield from faults


def of_unlisted(documents: Iterable[Document]) -> Iterator[Fault]:
    """Images that lie beside listed ones and stand in no JSON."""
    listed = {drawing.image for document in documents for drawing in document.drawings}
    for folder in sorted({image.parent for image in listed}):
        for image in images(folder) if folder.is_dir() else ():
            if image.parent == folder and image not in listed:
                yield Fault("mask-missing", "warning", str(image), None, "an image that no annotation file lists")


def _of_drawing(drawing: Drawing, reader: CocoShapes) -> list[Fault]:
    file = str(drawing.image)
    try:
        painted = reader.paint(drawing)
    except UserError as error:
        return [Fault("annotation-unreadable", "error", file, None, str(error))]
    faults = [
        Fault("annotation-unreadable", "error", file, None, f"annotation {shape.id}: cannot be drawn ({why})")
        for shape, why in painted.broken
    ]
    empty = set(map(id, painted.empty))
    for shape in drawing.shapes:
        faults += _of_shape(shape, id(shape) in empty, painted.mask.shape, file)
    if painted.broken:
        return faults
    return faults + _of_size_and_content(painted.mask, drawing.image, file, exact=True)


def _of_shape(shape: Shape, empty: bool, size: tuple[int, int], file: str) -> list[Fault]:
    def fault(kind: str, severity: Severity, message: str) -> list[Fault]:
        return [Fault(kind, severity, file, None, f"annotation {shape.id}: {message}")]

    if not isinstance(shape.segmentation, dict):
        corners = np.concatenate(shape.segmentation).reshape(-1, 2)
        low, high, (height, width) = corners.min(0), corners.max(0), size
        if low.min() >= 0 and high.max() <= 1 < min(size) - 1:
            return fault("mask-wrong-unit", "error", "corners from 0 to 1, where COCO has pixels; export it anew")
        if (high <= 0).any() or (low >= (width, height)).any():
            return fault("mask-out-of-bounds", "error", f"lies outside of the image, which is {size_in_words(size)}")
        if (low < -STICKS_OUT).any() or (high > np.add((width, height), STICKS_OUT)).any():
            return fault("mask-out-of-bounds", "warning", "sticks out of the image and is cut; make sure that it fits")
    return fault("mask-empty", "warning", "not one pixel is inside; draw it anew, or remove it") if empty else []


def _of_size_and_content(mask: np.ndarray, image: Path, file: str, exact: bool = False) -> list[Fault]:
    faults = []
    if (mask == IGNORED).all():
        faults.append(
            Fault("mask-all-ignored", "warning", file, None, "all pixels are ignored: nothing is learned here")
        )
    drawn = mask.shape
    try:
        upright, stored, orientation = sizes_of(image)
        size, mask = as_seen(mask, image)
    except (OSError, ValueError, SyntaxError):
        return faults  # an image that cannot be read is a fault of its own
    if mask.shape != size:
        severity = "error" if exact or misfits(mask, size) else "warning"
        what = f"the mask is {size_in_words(mask.shape)}, its image {size_in_words(size)}"
        faults.append(Fault("mask-size-mismatch", severity, file, None, f"{what}; draw it at the image's size"))
    if orientation != 1 and drawn == stored != upright:
        how = "the mask has the size before that, and is turned along; look at one"
        faults.append(Fault("exif-rotated-mask", "warning", file, None, f"EXIF turns the image: {how}"))
    elif orientation != 1 and stored == upright:
        how = "sizes do not tell if the mask was drawn before or after that; it is taken for after, look at one"
        faults.append(Fault("exif-rotated-mask", "warning", file, None, f"EXIF turns the image: {how}"))
    return faults


def _without_file(error: UserError, file: Path) -> str:
    return str(error).removeprefix(f"{file}: ")
