"""Check the headers of image files, which is fast enough for every run."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from kit.checks.images import ListedImage
from kit.ground.faults import Fault, fault
from kit.ground.files import open_image
from kit.ground.threads import map_in_threads

FORMATS = {  # PIL's names of the formats that a file with an extension may have
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
CHUNK = 1000  # files that are read before the time is checked


class Header(NamedTuple):
    """The header of an image file.

    bytes: the file's length.
    format, mode: PIL's names, with `+alpha` after a mode with transparency.
    has_frames: whether the file has several images.
    is_truncated: whether the file is a JPEG that lacks its last bytes; known only after it has been decoded.
    """

    bytes: int
    format: str
    mode: str
    height: int
    width: int
    has_frames: bool = False
    is_truncated: bool = False


def read_headers(files: Sequence[ListedImage], seconds: float | None) -> dict[int, Header | Fault]:
    """Return the header of each file, or the fault of a file that cannot be read, by the file's index.

    Args:
        seconds: stop after about this time. The files that were read are then evenly spaced. None reads all.
    """
    end = None if seconds is None else time.monotonic() + seconds
    headers: dict[int, Header | Fault] = {}
    for chunk in _spread_chunks(len(files)):
        headers.update(zip(chunk, map_in_threads(read_header, [files[i] for i in chunk]), strict=True))
        if end is not None and time.monotonic() > end:
            break
    return headers


def read_header(file: ListedImage) -> Header | Fault:
    try:
        with open_image(file.path) as image:
            return header_of(image, file.path.stat().st_size)
    except Exception as error:
        return read_error(file, error)


def header_of(image: Pillow.Image, length: int) -> Header:
    """Return the header of an image that is open and not yet decoded, in a file of `length` bytes."""
    alpha = image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
    mode = f"{image.mode}+alpha" if alpha else image.mode
    has_frames = getattr(image, "is_animated", False) and image.format != "MPO"  # cameras add a preview to MPO files
    return Header(length, image.format or "", mode, image.height, image.width, has_frames)


def read_error(file: ListedImage, error: Exception) -> Fault:
    """Return the fault for an exception that reading a file raised. A broken file may raise any exception."""
    if isinstance(error, FileNotFoundError):
        return fault("image-missing", file, "no such file; restore it, or take it out of the annotations")
    if isinstance(error, UnidentifiedImageError):
        if not file.path.stat().st_size:
            return fault("empty", file, "an empty file; restore or remove it")
        return fault("not-an-image", file, "not an image that can be read; restore or remove it")
    return fault("unreadable", file, f"cannot be read ({str(error) or type(error).__name__}); restore or remove it")


def header_faults(files: Sequence[ListedImage], headers: dict[int, Header | Fault]) -> list[Fault]:
    """Return the faults that headers show. headers: the result of `read_headers`."""
    faults = [header for header in headers.values() if isinstance(header, Fault)]
    readable = {i: header for i, header in headers.items() if isinstance(header, Header)}
    for i, header in readable.items():
        expected = FORMATS.get(files[i].path.suffix.lower())
        if expected and header.format not in expected.split():
            message = (
                f"is a {header.format} by its content; give it that extension, since other programs trust the name"
            )
            faults.append(fault("wrong-extension", files[i], message))
        if header.is_truncated:
            faults.append(fault("cut-off", files[i], "lacks its last bytes, and is read without them; restore it"))
        if header.has_frames:
            faults.append(fault("several-frames", files[i], "holds several images, of which the first is used"))
    return faults + _mode_faults(files, readable) + _size_faults(files, readable)


def _mode_faults(files: Sequence[ListedImage], headers: dict[int, Header]) -> list[Fault]:
    """Return faults for modes that only some of the files have."""
    faults: list[Fault] = []

    def report(kind: str, has: Callable[[str], bool], message: str, only_mixed: bool = True) -> None:
        indices = [i for i, header in headers.items() if has(header.mode)]
        if not (only_mixed and len(indices) == len(headers)):
            faults.extend(fault(kind, files[i], message) for i in indices)

    report("sixteen-bit", _deep, "more than 8 bits a pixel, unlike others; make sure that its brightness is theirs")
    report("alpha", lambda mode: mode.endswith("+alpha"), "is partly transparent, unlike others; it is laid on white")
    report("cmyk", lambda mode: mode == "CMYK", "in the colours of print, which come out wrong; save it as RGB", False)
    grey = sum(_grey(header.mode) for header in headers.values())
    if grey * 2 <= len(headers):
        report("mixed-colour", _grey, "grey, among colour images; fine if it is meant, else find its original")
    else:
        report("mixed-colour", lambda mode: not _grey(mode), "in colour, among grey images; --data.channels says which")
    return faults


def _grey(mode: str) -> bool:
    return mode.removesuffix("+alpha") in GREY or mode.startswith("I;")


def _deep(mode: str) -> bool:
    return mode.startswith(("I", "F"))


def _size_faults(files: Sequence[ListedImage], headers: dict[int, Header]) -> list[Fault]:
    """Return faults for sizes and aspects far outside the quartiles, by a minimum if nearly all are equal."""
    if len(headers) < 4:
        return []
    sides = np.log([[header.height, header.width] for header in headers.values()])
    area, aspect = sides.sum(1) / 2, sides[:, 1] - sides[:, 0]
    distance, spread = _from_median(area)
    odd_size = distance > np.maximum(spread, np.log(1.6))
    distance, spread = _from_median(aspect)
    odd_aspect = (distance > spread) & ((distance > np.log(2.5)) | (np.abs(aspect) > -np.log(0.35)) & (distance > 0.4))
    faults: list[Fault] = []
    usual = Counter(f"{header.width}x{header.height}" for header in headers.values()).most_common(1)[0][0]
    for (i, header), size_is_odd, aspect_is_odd in zip(headers.items(), odd_size, odd_aspect, strict=True):
        text = (
            f"{header.width}x{header.height} pixels, unlike most ({usual} above all); is it a thumbnail, or uncropped?"
        )
        if size_is_odd:
            faults.append(fault("odd-size", files[i], text))
        if aspect_is_odd:
            text = f"{header.width}x{header.height} pixels, a shape unlike the others'; crop it, or expect distortion"
            faults.append(fault("odd-aspect", files[i], text))
    return faults


def _from_median(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Return each value's distance from the median, and three times the interquartile range (Tukey's outer fence)."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return np.abs(values - middle), 3 * (high - low)


def _spread_chunks(count: int) -> list[list[int]]:
    """Divide all indices into chunks, each evenly spaced, so that a search may stop after any of them."""
    chunks = max(1, -(-count // CHUNK))
    return [list(range(start, count, chunks)) for start in range(chunks)]
