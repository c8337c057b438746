"""Check the headers of image files, which is fast enough for every run."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from kit.checks.images import CheckedImage
from kit.data.decode import EXTENSIONS
from kit.ground.faults import Fault, fault
from kit.ground.files import open_image
from kit.ground.threads import map_files

# Maps extensions and PIL's names of formats to one name for each format. Cameras give MPO files the extension jpg.
FORMATS = {"TIF": "TIFF", "PGM": "PPM", "PBM": "PPM", "DIB": "BMP"}
FORMATS |= dict.fromkeys(("JPG", "JPE", "JFIF", "MPO"), "JPEG")
GREY_MODES = {"1", "L", "LA", "La", "I", "F"}
Check = tuple[str, Sequence[bool] | np.ndarray, str]  # a kind of fault, whether each file has it, and its message


class Header(NamedTuple):
    """The header of an image file.

    file_size: the number of bytes.
    suffix: the extension of the file's name, in lower case.
    format: PIL's name of the file's format.
    mode: PIL's name of the mode, with `+alpha` if pixels of the image can be transparent.
    has_frames: whether the file has several images.
    """

    file_size: int
    suffix: str
    format: str
    mode: str
    height: int
    width: int
    has_frames: bool = False

    @property
    def is_misnamed(self) -> bool:
        name = self.suffix[1:].upper()
        return self.suffix in EXTENSIONS and FORMATS.get(name, name) != FORMATS.get(self.format, self.format)


# Checks of a single header: a kind of fault, whether a header has it, and its message.
MISNAMED = "is a {0.format} by its content; give it that extension, since other programs trust the name"
HEADER_CHECKS: tuple[tuple[str, Callable[[Header], bool], str], ...] = (
    ("wrong-extension", lambda header: header.is_misnamed, MISNAMED),
    ("several-frames", lambda header: header.has_frames, "has several images; only the first is used"),
    ("cmyk", lambda header: header.mode == "CMYK", "has print colours, which may come out wrong; save it as RGB"),
    ("sixteen-bit", lambda header: header.mode[0] in "IF", "has more than 8 bits, unlike others; check its brightness"),
    ("alpha", lambda header: "alpha" in header.mode, "has transparency, unlike others; it is put on white"),
)
MIXED_ONLY = {"sixteen-bit", "alpha"}  # these are faults only if some files do not have them


def read_headers(files: Sequence[CheckedImage]) -> tuple[dict[int, Header], list[Fault]]:
    """Return the header of each readable file, by the file's index, and the faults of the other files."""
    results = list(map_files(read_header, files))
    headers = {i: result for i, result in enumerate(results) if isinstance(result, Header)}
    return headers, [result for result in results if isinstance(result, Fault)]


def read_header(file: CheckedImage) -> Header | Fault:
    """Return the header of a file, or a fault if it cannot be read."""
    try:
        with open_image(file.path) as image:
            return header_of(image, file, file.path.stat().st_size)
    except Exception as error:
        return read_error(file, error)


def header_of(image: Pillow.Image, file: CheckedImage, file_size: int) -> Header:
    """Return the header of an image that was opened from a file and is not decoded yet."""
    has_alpha = image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
    mode = f"{image.mode}+alpha" if has_alpha else image.mode
    # Some of PIL's formats lack `is_animated`. In MPO files, the further images are previews.
    has_frames = getattr(image, "is_animated", False) and image.format != "MPO"
    suffix = file.path.suffix.lower()
    return Header(file_size, suffix, image.format or "", mode, image.height, image.width, has_frames)


def read_error(file: CheckedImage, error: Exception) -> Fault:
    """Return the fault for an exception while a file is read. A broken file may raise any exception."""
    if isinstance(error, FileNotFoundError):
        return fault("image-missing", file, "no such file; restore it, or remove it from the annotations")
    if isinstance(error, UnidentifiedImageError):
        if not file.path.stat().st_size:
            return fault("empty", file, "an empty file; restore or remove it")
        return fault("not-an-image", file, "not a readable image; restore or remove it")
    return fault("unreadable", file, f"cannot be read ({str(error) or type(error).__name__}); restore or remove it")


def header_faults(files: Sequence[CheckedImage], headers: dict[int, Header]) -> list[Fault]:
    """Return the faults that headers show. The headers' keys are indices of files."""
    values = list(headers.values())
    return failed_checks(files, headers, chain(_mode_checks(values), _size_checks(values)))


def failed_checks(files: Sequence[CheckedImage], headers: dict[int, Header], checks: Iterable[Check]) -> list[Fault]:
    """Return the faults that checks found, with values of the files' headers in the messages."""
    return [
        fault(kind, files[i], message.format(header))
        for kind, is_faulty, message in checks
        for (i, header), faulty in zip(headers.items(), is_faulty, strict=True)
        if faulty
    ]


def _mode_checks(headers: list[Header]) -> Iterator[Check]:
    """Yield `HEADER_CHECKS`, and a check for grey images among colour images or the reverse."""
    for kind, test, message in HEADER_CHECKS:
        is_faulty = [test(header) for header in headers]
        if kind not in MIXED_ONLY or not all(is_faulty):
            yield kind, is_faulty, message
    is_grey = np.array([header.mode.split("+")[0] in GREY_MODES or header.mode.startswith("I;") for header in headers])
    if is_grey.sum() * 2 > len(headers):
        yield "mixed-colour", ~is_grey, "in colour, unlike most images; --data.channels 1 or 3 converts all"
    else:
        yield "mixed-colour", is_grey, "grey, unlike most images; if that is not intended, find the original"


def _size_checks(headers: list[Header]) -> Iterator[Check]:
    """Yield checks for sizes and aspect ratios that are far from the median.

    A size or an aspect ratio is odd if its logarithm differs from the median by more than three times the interquartile
    range. The difference must also exceed a fixed limit, since quartiles may coincide.
    """
    if len(headers) < 4:
        return
    log_height, log_width = np.log([[header.height, header.width] for header in headers]).T
    log_size, log_aspect = (log_height + log_width) / 2, log_width - log_height
    distance, spread = _from_median(log_size)
    usual_size, _ = Counter(f"{header.width}x{header.height}" for header in headers).most_common(1)[0]
    message = f"{{0.width}}x{{0.height}} pixels, unlike most (often {usual_size}); is it a thumbnail, or not cropped?"
    yield "odd-size", distance > np.maximum(spread, np.log(1.6)), message
    distance, spread = _from_median(log_aspect)
    is_odd = (distance > spread) & ((distance > np.log(2.5)) | (np.abs(log_aspect) > -np.log(0.35)) & (distance > 0.4))
    message = "{0.width}x{0.height} pixels, an unusual aspect ratio; crop it, or resizing distorts it"
    yield "odd-aspect", is_odd, message


def _from_median(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Return each value's distance from the median, and three times the interquartile range."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return np.abs(values - middle), 3 * (high - low)
