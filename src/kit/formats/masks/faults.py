"""List the faults in masks instead of raising them. Each mask is read once, in one of several threads."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kit.data.decode import read_upright_size
from kit.formats.masks.masks import IGNORED, Reader, has_other_aspect, stored_size, turn_mask_upright
from kit.formats.text import describe_size, unreadable_fault
from kit.ground.errors import UserError
from kit.ground.faults import Fault, Severity, fault
from kit.ground.threads import map_in_threads


def mask_faults(reader: Reader, masks: Iterable[tuple[Path, Path, Any]]) -> Iterator[Fault]:
    """Yield the faults of masks. Other checks report images that cannot be read.

    Args:
        masks: for each mask its image, the file to name in faults, and the target that `reader` reads. The file is the
            mask file. If the mask is made from polygons, it is the image.
    """
    for faults in map_in_threads(lambda mask: _faults(reader, *mask), masks):
        yield from faults


def _faults(reader: Reader, image: Path, file: Path, target: Any) -> list[Fault]:
    try:
        mask, problems = reader.read_with_problems(target)
    except UserError as error:
        return [unreadable_fault(file, error)]
    faults = [fault(kind, file, message, severity=severity) for kind, severity, message in problems]
    if any(item.kind == "annotation-unreadable" for item in faults):
        return faults
    if (mask == IGNORED).all():
        faults.append(fault("mask-all-ignored", file, "all pixels are ignored, so it has no effect"))
    if (header := read_upright_size(image)) is None:
        return faults
    size, orientation = header
    stored, upright_mask = stored_size(size, orientation), turn_mask_upright(mask, size, orientation)
    if upright_mask.shape != size:
        severity: Severity = "error" if file == image or has_other_aspect(upright_mask, size) else "warning"
        sizes = f"the mask is {describe_size(upright_mask.shape)}, its image {describe_size(size)}"
        faults.append(fault("mask-size-mismatch", file, f"{sizes}; draw it at the image's size", severity=severity))
    if orientation != 1 and (mask.shape == stored or stored == size):
        handling = "The mask has the size that the image had before turning, so it is turned, too"
        handling = handling if stored != size else "The mask is not turned"
        faults.append(fault("exif-rotated-mask", file, f"EXIF turns the image. {handling}; check that they match"))
    return faults
