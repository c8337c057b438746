"""What a file's header tells: cheap enough for every run."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from kit.checks.images import Image
from kit.ground.faults import Fault, fault
from kit.ground.reading import open_image
from kit.ground.threads import in_threads

FORMATS = {  # PIL's names for what a file with an extension may hold
    ".jpg": "JPEG MPO",
    ".jpeg": "JPEG MPO",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pbm": "PPM",
    ".png": "PNG",
    ".bmp": "BMP DIB",
    ".gif": "GIF",
    ".webp": "WEBP",
}
GREY = {"1", "L", "LA", "La", "I", "F"}
CHUNK = 1000  # files between two looks at the clock


class Header(NamedTuple):
    """What a file's header says.

    bytes: the file's length.
    format, mode: as PIL names them, with `+alpha` after a mode with transparency.
    has_frames: the file holds several images.
    is_truncated: the file is a JPEG that lacks its last bytes; known only after it has been decoded.
    """

    bytes: int
    format: str
    mode: str
    height: int
    width: int
    has_frames: bool = False
    is_truncated: bool = False


def read_headers(files: Sequence[Image], seconds: float | None) -> dict[int, Header | Fault]:
    """The header of each file, or what is wrong with it, by its place in `files`.

    Args:
        seconds: no more than about so long; files are then left out evenly. None reads all.
    """
    end = None if seconds is None else time.monotonic() + seconds
    found: dict[int, Header | Fault] = {}
    for some in _evenly(len(files)):
        found.update(zip(some, in_threads(read_header, [files[i] for i in some]), strict=True))
        if end is not None and time.monotonic() > end:
            break
    return found


def read_header(file: Image) -> Header | Fault:
    try:
        with open_image(file.path) as image:
            return header_of(image, file.path.stat().st_size)
    except Exception as error:
        return broken(file, error)


def header_of(image: Pillow.Image, length: int) -> Header:
    """Of an image that is open and not yet decoded, in a file of `length` bytes."""
    alpha = image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
    mode = f"{image.mode}+alpha" if alpha else image.mode
    has_frames = getattr(image, "is_animated", False) and image.format != "MPO"  # cameras add a preview to these
    return Header(length, image.format or "", mode, image.height, image.width, has_frames)


def broken(file: Image, error: Exception) -> Fault:
    """What reading it raised: over a broken file that is not to be foreseen, and most of it means the same."""
    if isinstance(error, FileNotFoundError):
        return fault("image-missing", file, "no such file; restore it, or take it out of the annotations")
    if isinstance(error, UnidentifiedImageError):
        if not file.path.stat().st_size:
            return fault("empty", file, "an empty file; restore or remove it")
        return fault("not-an-image", file, "not an image that can be read; restore or remove it")
    return fault("unreadable", file, f"cannot be read ({str(error) or type(error).__name__}); restore or remove it")


def header_faults(files: Sequence[Image], headers: dict[int, Header | Fault]) -> list[Fault]:
    found = [header for header in headers.values() if isinstance(header, Fault)]
    whole = {i: header for i, header in headers.items() if isinstance(header, Header)}
    for i, header in whole.items():
        expected = FORMATS.get(files[i].path.suffix.lower())
        if expected and header.format not in expected.split():
            message = (
                f"is a {header.format} by its content; give it that extension, since other programs trust the name"
            )
            found.append(fault("wrong-extension", files[i], message))
        if header.is_truncated:
            found.append(fault("cut-off", files[i], "lacks its last bytes, and is read without them; restore it"))
        if header.has_frames:
            found.append(fault("several-frames", files[i], "holds several images, of which the first is used"))
    return found + _modes(files, whole) + _sizes(files, whole)


def _modes(files: Sequence[Image], headers: dict[int, Header]) -> list[Fault]:
    """Modes that only some of the files have."""
    found: list[Fault] = []

    def report(kind: str, has: Callable[[str], bool], message: str, only_mixed: bool = True) -> None:
        those = [i for i, header in headers.items() if has(header.mode)]
        if not (only_mixed and len(those) == len(headers)):
            found.extend(fault(kind, files[i], message) for i in those)

    report("sixteen-bit", _deep, "more than 8 bits a pixel, unlike others; make sure that its brightness is theirs")
    report("alpha", lambda mode: mode.endswith("+alpha"), "is partly transparent, unlike others; it is laid on white")
    report("cmyk", lambda mode: mode == "CMYK", "in the colours of print, which come out wrong; save it as RGB", False)
    grey = sum(_grey(header.mode) for header in headers.values())
    if grey * 2 <= len(headers):
        report("mixed-colour", _grey, "grey, among colour images; fine if it is meant, else find its original")
    else:
        report("mixed-colour", lambda mode: not _grey(mode), "in colour, among grey images; --data.channels says which")
    return found


def _grey(mode: str) -> bool:
    return mode.removesuffix("+alpha") in GREY or mode.startswith("I;")


def _deep(mode: str) -> bool:
    return mode.startswith(("I", "F"))


def _sizes(files: Sequence[Image], headers: dict[int, Header]) -> list[Fault]:
    """Far outside the quartiles, and not by a hair where nearly all are equal."""
    if len(headers) < 4:
        return []
    sides = np.log([[header.height, header.width] for header in headers.values()])
    area, aspect = sides.sum(1) / 2, sides[:, 1] - sides[:, 0]
    distance, spread = _from_median(area)
    odd_size = distance > np.maximum(spread, np.log(1.6))
    distance, spread = _from_median(aspect)
    odd_aspect = (distance > spread) & ((distance > np.log(2.5)) | (np.abs(aspect) > -np.log(0.35)) & (distance > 0.4))
    found: list[Fault] = []
    usual = Counter(f"{header.width}x{header.height}" for header in headers.values()).most_common(1)[0][0]
    for (i, header), size_is_odd, aspect_is_odd in zip(headers.items(), odd_size, odd_aspect, strict=True):
        text = f"{header.width}x{header.height} pixels, unlike most ({usual} above all); is it a thumbnail, or a whole?"
        if size_is_odd:
            found.append(fault("odd-size", files[i], text))
        if aspect_is_odd:
            text = f"{header.width}x{header.height} pixels, a shape unlike the others'; crop it, or expect distortion"
            found.append(fault("odd-aspect", files[i], text))
    return found


def _from_median(values: np.ndarray) -> tuple[np.ndarray, float]:
    """The distance of each, and three times the range between the quartiles (Tukey's outer fence)."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return np.abs(values - middle), 3 * (high - low)


def _evenly(count: int) -> list[list[int]]:
    """All indices, each chunk spread over the whole: whenever one stops, every part of the data was looked at."""
    chunks = max(1, -(-count // CHUNK))
    return [list(range(start, count, chunks)) for start in range(chunks)]
