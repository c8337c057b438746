"""List the faults in masks instead of raising them. Each mask is read once, in one of several threads."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kit.formats.coco import Document, ListedImage, crowd_faults
from kit.formats.masks.coco import CocoShapes, Problem, Shape, crowds
from kit.formats.masks.mask_images import MaskImages
from kit.formats.masks.masks import IGNORED, UNKNOWN, has_other_aspect, read_orientation, stored_size, turn_mask_upright
from kit.formats.pairs import Pairs
from kit.formats.text import describe_size, unreadable_fault
from kit.ground.errors import UserError
from kit.ground.faults import Fault, Severity, fault
from kit.ground.threads import map_in_threads

TOLERANCE = 1.0  # the number of pixels by which a corner may lie outside of the image, since programs round


def pair_faults(pairs: Pairs, reader: MaskImages, missing_mask: Severity = "error") -> Iterator[Fault]:
    """Yield the faults of images and mask files. `missing_mask` is the severity of an image without a mask."""
    for image in pairs.lone_images:
        yield fault("mask-missing", image, "an image without a mask; add one, or remove it", severity=missing_mask)
    for mask in pairs.lone_files:
        yield fault("image-missing", mask, "a mask without an image; add one, or remove the mask", severity="warning")
    for faults in map_in_threads(lambda pair: _mask_faults(*pair, reader), zip(pairs.images, pairs.files, strict=True)):
        yield from faults


def _mask_faults(image: Path, mask: Path, reader: MaskImages) -> list[Fault]:
    try:
        values = reader.values(mask)
    except UserError as error:
        return [unreadable_fault(mask, error)]
    classes, faults = reader.classes(values), []
    if (classes == UNKNOWN).any():
        kind = "mask-colour-unknown" if values.ndim == 3 else "mask-id-unknown"
        faults.append(fault(kind, mask, reader.describe_unknown(values, classes)))
    return faults + _size_and_content_faults(classes, image, mask)


def document_faults(document: Document, reader: CocoShapes) -> Iterator[Fault]:
    """Yield the faults of a JSON file and of the masks that it describes. Other checks report missing images."""
    yield from document.faults
    if reader.crowds == "ignore":
        yield from crowd_faults(crowds(document), document.file)
    for faults in map_in_threads(lambda image: _drawing_faults(image, reader), document.images):
        yield from faults


def _drawing_faults(image: ListedImage, reader: CocoShapes) -> list[Fault]:
    try:
        mask, problems = reader.draw(image)
    except UserError as error:
        return [unreadable_fault(image.path, error)]
    faults = []
    for shape, problem in zip(image.annotations, problems, strict=True):
        if problem := _position_problem(shape, mask.shape) or problem:
            kind, severity, message = problem
            faults.append(fault(kind, image.path, f"annotation {shape.id}: {message}", severity=severity))
    all_are_drawn = all(fault.kind != "annotation-unreadable" for fault in faults)
    return faults + _size_and_content_faults(mask, image.path, image.path) if all_are_drawn else faults


def _position_problem(shape: Shape, size: tuple[int, int]) -> Problem | None:
    """Return the problem of a polygon that is not inside an image of height and width `size`, or None."""
    if isinstance(shape.segmentation, dict):
        return None
    corners = np.concatenate(shape.segmentation).reshape(-1, 2)
    low, high, (height, width) = corners.min(0), corners.max(0), size
    if low.min() >= 0 and high.max() <= 1 < min(size) - 1:
        return "mask-wrong-unit", "error", "its corners are from 0 to 1, instead of in pixels; export it again"
    if (high <= 0).any() or (low >= (width, height)).any():
        return "mask-out-of-bounds", "error", f"lies outside the image, which is {describe_size(size)}"
    if (low < -TOLERANCE).any() or (high > np.add((width, height), TOLERANCE)).any():
        return "mask-out-of-bounds", "warning", "sticks out of the image, and is cut; check it"
    return None


def _size_and_content_faults(mask: np.ndarray, image: Path, file: Path) -> list[Fault]:
    """Return the faults of a mask's size and content. `file` is the mask file, or the image if the mask was drawn."""
    faults = []
    if (mask == IGNORED).all():
        faults.append(fault("mask-all-ignored", file, "all pixels are ignored, so it has no effect"))
    try:
        size, orientation = read_orientation(image)
    except (OSError, ValueError, SyntaxError):
        return faults  # another check reports an image that cannot be read
    stored, upright_mask = stored_size(size, orientation), turn_mask_upright(mask, size, orientation)
    if upright_mask.shape != size:
        severity: Severity = "error" if file == image or has_other_aspect(upright_mask, size) else "warning"
        sizes = f"the mask is {describe_size(upright_mask.shape)}, its image {describe_size(size)}"
        faults.append(fault("mask-size-mismatch", file, f"{sizes}; draw it at the image's size", severity=severity))
    if orientation != 1 and (mask.shape == stored or stored == size):
        handling = "has the stored size, and is turned too" if stored != size else "is assumed to be upright"
        faults.append(fault("exif-rotated-mask", file, f"EXIF turns the image, and the mask {handling}; compare both"))
    return faults
