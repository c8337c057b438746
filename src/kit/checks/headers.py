"""Check the headers of image files, which is fast enough for every run."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from kit.checks.images import ListedImage
from kit.data.decode import EXTENSIONS
from kit.ground.faults import Fault, fault
from kit.ground.files import open_image
from kit.ground.threads import map_in_threads

# Extensions and PIL's names of formats, to one name for each format. Cameras write MPO files with the extension jpg.
FORMATS = {"JPG": "JPEG", "MPO": "JPEG", "TIF": "TIFF", "PGM": "PPM", "PBM": "PPM", "DIB": "BMP"}
GREY = {"1", "L", "LA", "La", "I", "F"}
CHUNK = 1000  # files that are read before the time is checked
Check = tuple[str, Sequence[bool] | np.ndarray, str]  # a kind of fault, Bool[N] whether a file has it, and the message


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


def read_headers(files: Sequence[ListedImage], max_seconds: float | None) -> dict[int, Header | Fault]:
    """Return the header of each file, or the fault of a file that cannot be read, by the file's index.

    Args:
        max_seconds: stop after about this time. The files that were read are then evenly spaced. None reads all.
    """
    started = time.monotonic()
    headers: dict[int, Header | Fault] = {}
    num_chunks = max(1, -(-len(files) // CHUNK))
    for first in range(num_chunks):
        indices = range(first, len(files), num_chunks)
        headers.update(zip(indices, map_in_threads(read_header, [files[i] for i in indices]), strict=True))
        if max_seconds is not None and time.monotonic() - started > max_seconds:
            break
    return headers


def read_header(file: ListedImage) -> Header | Fault:
    """Return the header of a file, or a fault if it cannot be read."""
    try:
        with open_image(file.path) as image:
            return header_of(image, file.path.stat().st_size)
    except Exception as error:
        return read_error(file, error)


def header_of(image: Pillow.Image, length: int) -> Header:
    """Return the header of an image that is open and not yet decoded, in a file of `length` bytes."""
    alpha = image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
    mode = f"{image.mode}+alpha" if alpha else image.mode
    # Only some of PIL's formats have the attribute. Cameras add a preview to MPO files.
    has_frames = getattr(image, "is_animated", False) and image.format != "MPO"
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
        suffix = files[i].path.suffix.lower()
        expected = suffix[1:].upper()
        if suffix in EXTENSIONS and FORMATS.get(expected, expected) != FORMATS.get(header.format, header.format):
            advice = "give it that extension, since other programs trust the name"
            faults.append(fault("wrong-extension", files[i], f"is a {header.format} by its content; {advice}"))
    if not readable:
        return faults
    table = list(readable.values())
    return faults + faults_where([files[i] for i in readable], table, [*_mode_checks(table), *_size_checks(table)])


def faults_where(files: Sequence[ListedImage], headers: Sequence[Header], checks: Iterable[Check]) -> list[Fault]:
    """Return the faults of the files for which a check is true, and put values of their headers into the messages."""
    return [
        fault(kind, file, message.format(header))
        for kind, is_faulty, message in checks
        for file, header, faulty in zip(files, headers, is_faulty, strict=True)
        if faulty
    ]


def _mode_checks(headers: list[Header]) -> Iterator[Check]:
    yield (
        "cut-off",
        [header.is_truncated for header in headers],
        "lacks its last bytes, and is read without them; restore it",
    )
    yield (
        "several-frames",
        [header.has_frames for header in headers],
        "holds several images, of which the first is used",
    )
    is_cmyk = [header.mode == "CMYK" for header in headers]
    yield "cmyk", is_cmyk, "in the colours of print, which come out wrong; save it as RGB"
    is_deep = np.array([header.mode.startswith(("I", "F")) for header in headers])
    message = "more than 8 bits a pixel, unlike others; make sure that its brightness is theirs"
    yield "sixteen-bit", is_deep & ~is_deep.all(), message
    has_alpha = np.array([header.mode.endswith("+alpha") for header in headers])
    yield "alpha", has_alpha & ~has_alpha.all(), "is partly transparent, unlike others; it is laid on white"
    is_grey = np.array(
        [header.mode.removesuffix("+alpha") in GREY or header.mode.startswith("I;") for header in headers]
    )
    if is_grey.mean() <= 0.5:
        yield "mixed-colour", is_grey, "grey, among colour images; fine if it is meant, else find its original"
    else:
        yield "mixed-colour", ~is_grey, "in colour, among grey images; --data.channels says which"


def _size_checks(headers: list[Header]) -> Iterator[Check]:
    """Find sizes and aspects far outside the quartiles, by a minimum if nearly all are equal."""
    if len(headers) < 4:
        return
    sides = np.log([[header.height, header.width] for header in headers])
    area, aspect = sides.sum(1) / 2, sides[:, 1] - sides[:, 0]
    distance, spread = _from_median(area)
    usual, _ = Counter(f"{header.width}x{header.height}" for header in headers).most_common(1)[0]
    message = f"{{0.width}}x{{0.height}} pixels, unlike most ({usual} above all); is it a thumbnail, or uncropped?"
    yield "odd-size", distance > np.maximum(spread, np.log(1.6)), message
    distance, spread = _from_median(aspect)
    is_odd = (distance > spread) & ((distance > np.log(2.5)) | (np.abs(aspect) > -np.log(0.35)) & (distance > 0.4))
    message = "{0.width}x{0.height} pixels, a shape unlike the others'; crop it, or expect distortion"
    yield "odd-aspect", is_odd, message


def _from_median(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Return each value's distance from the median, and three times the interquartile range (Tukey's outer fence)."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return np.abs(values - middle), 3 * (high - low)
