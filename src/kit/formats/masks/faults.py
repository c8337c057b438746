"""List the faults in masks. Each mask is read once, in several threads, and nothing is raised."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from kit.formats.coco import crowd_faults
from kit.formats.folders import unlisted_images
from kit.formats.masks.coco import CocoShapes, Document, Drawing, Shape
from kit.formats.masks.layouts import Pairs
from kit.formats.masks.mask_images import MaskImages, read_content
from kit.formats.masks.masks import IGNORED, UNKNOWN, describe_size, has_other_aspect, read_sizes, turn_upright
from kit.ground.errors import UserError
from kit.ground.faults import Fault, Severity, fault
from kit.ground.threads import map_in_threads

TOLERANCE = 1.0  # pixels by which a corner may be outside of the image, since programs round


def pair_faults(pairs: Pairs, reader: MaskImages, no_mask: Severity = "error") -> Iterator[Fault]:
    """Yield the faults of a split's images and mask files. no_mask: the severity of an image without a mask."""
    for image in pairs.lone_images:
        yield Fault("mask-missing", no_mask, str(image), None, "an image without a mask; add it, or remove the image")
    for mask in pairs.lone_masks:
        yield Fault("image-missing", "warning", str(mask), None, "a mask without an image; add it, or remove the mask")
    for faults in map_in_threads(lambda pair: _mask_faults(*pair, reader), zip(pairs.images, pairs.masks, strict=True)):
        yield from faults


def _mask_faults(image: Path, mask: Path, reader: MaskImages) -> list[Fault]:
    try:
        content = read_content(mask)
    except UserError as error:
        return [Fault("annotation-unreadable", "error", str(mask), None, _without_file(error, mask))]
    if content.jpeg:
        return [Fault("mask-is-jpeg", "error", str(mask), None, "JPEG changes the ids near edges; save masks as PNG")]
    classes, faults = reader.classes(content), []
    if (classes == UNKNOWN).any():
        coloured = content.values.ndim == 3
        kind = "mask-colour-unknown" if coloured else "mask-id-unknown"
        faults.append(Fault(kind, "error", str(mask), None, reader.describe_unknown(content, classes)))
    return faults + _size_and_content_faults(classes, image, str(mask))


def document_faults(document: Document, reader: CocoShapes) -> Iterator[Fault]:
    """Yield the faults of a split's JSON file."""
    file = str(document.file)
    for unusable in document.unusable:
        yield Fault(unusable.kind, "error", file, None, f"{unusable.what}: {unusable.why}; it is left out")
    for message in document.same_names:
        yield fault("class-joined", file, message)
    if reader.crowds == "ignore":
        yield from crowd_faults(document.crowds(), file)
    for drawing in document.drawings:
        if not drawing.image.is_file():
            yield Fault("image-missing", "error", str(drawing.image), None, f"no such file, but {file} lists it")
    present = [drawing for drawing in document.drawings if drawing.image.is_file()]
    for faults in map_in_threads(lambda drawing: _drawing_faults(drawing, reader), present):
        yield from faults


def unlisted_image_faults(documents: Iterable[Document]) -> Iterator[Fault]:
    """Yield a fault for each image that is in the folder of a listed one, but in no JSON file."""
    listed = {drawing.image for document in documents for drawing in document.drawings}
    for image in unlisted_images(listed):
        yield Fault("mask-missing", "warning", str(image), None, "an image that no annotation file lists")


def _drawing_faults(drawing: Drawing, reader: CocoShapes) -> list[Fault]:
    file = str(drawing.image)
    try:
        drawn = reader.draw(drawing)
    except UserError as error:
        return [Fault("annotation-unreadable", "error", file, None, str(error))]
    faults = [
        Fault("annotation-unreadable", "error", file, None, f"annotation {shape.id}: cannot be drawn ({why})")
        for shape, why in drawn.broken
    ]
    empty = set(map(id, drawn.empty))
    for shape in drawing.shapes:
        faults += _shape_faults(shape, id(shape) in empty, drawn.mask.shape, file)
    if drawn.broken:
        return faults
    return faults + _size_and_content_faults(drawn.mask, drawing.image, file, exact=True)


def _shape_faults(shape: Shape, empty: bool, size: tuple[int, int], file: str) -> list[Fault]:
    def fault(kind: str, severity: Severity, message: str) -> list[Fault]:
        return [Fault(kind, severity, file, None, f"annotation {shape.id}: {message}")]

    if not isinstance(shape.segmentation, dict):
        corners = np.concatenate(shape.segmentation).reshape(-1, 2)
        low, high, (height, width) = corners.min(0), corners.max(0), size
        if low.min() >= 0 and high.max() <= 1 < min(size) - 1:
            return fault("mask-wrong-unit", "error", "corners from 0 to 1, where COCO has pixels; export it anew")
        if (high <= 0).any() or (low >= (width, height)).any():
            return fault("mask-out-of-bounds", "error", f"lies outside of the image, which is {describe_size(size)}")
        if (low < -TOLERANCE).any() or (high > np.add((width, height), TOLERANCE)).any():
            return fault("mask-out-of-bounds", "warning", "sticks out of the image and is cut; make sure that it fits")
    return fault("mask-empty", "warning", "not one pixel is inside; draw it anew, or remove it") if empty else []


def _size_and_content_faults(mask: np.ndarray, image: Path, file: str, exact: bool = False) -> list[Fault]:
    """Return the faults of a mask's size and content. exact: whether a mask of another size is an error."""
    faults = []
    if (mask == IGNORED).all():
        faults.append(
            Fault("mask-all-ignored", "warning", file, None, "all pixels are ignored: nothing is learned here")
        )
    mask_size = mask.shape
    try:
        upright, stored, orientation = read_sizes(image)
        size, mask = turn_upright(mask, image)
    except (OSError, ValueError, SyntaxError):
        return faults  # an image that cannot be read is a fault of its own
    if mask.shape != size:
        severity = "error" if exact or has_other_aspect(mask, size) else "warning"
        what = f"the mask is {describe_size(mask.shape)}, its image {describe_size(size)}"
        faults.append(Fault("mask-size-mismatch", severity, file, None, f"{what}; draw it at the image's size"))
    if orientation != 1 and mask_size == stored != upright:
        how = "the mask has the size before that, and is turned too; look at one"
        faults.append(Fault("exif-rotated-mask", "warning", file, None, f"EXIF turns the image: {how}"))
    elif orientation != 1 and stored == upright:
        how = "its size does not show if the mask was drawn before or after that; it is taken for after, look at one"
        faults.append(Fault("exif-rotated-mask", "warning", file, None, f"EXIF turns the image: {how}"))
    return faults


def _without_file(error: UserError, file: Path) -> str:
    return str(error).removeprefix(f"{file}: ")
