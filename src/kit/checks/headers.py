"""Check the headers of image files, which is fast enough for every run."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
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
Check = tuple[str, Sequence[bool] | np.ndarray, str]  # a kind of fault, Bool[N] whether a file has it, and the message


class Header(NamedTuple):
    """The header of an image file.

    bytes: the file's length.
    format, mode: PIL's names, with `+alpha` after a mode with transparency.
    suffix: the extension of the file's name, in lower case.
    has_frames: whether the file has several images.
    is_truncated: whether the file is a JPEG that lacks its last bytes; known only after it has been decoded.
    """

    bytes: int
    suffix: str
    format: str
    mode: str
    height: int
    width: int
    has_frames: bool = False
    is_truncated: bool = False

    @property
    def is_misnamed(self) -> bool:
        name = self.suffix[1:].upper()
        return self.suffix in EXTENSIONS and FORMATS.get(name, name) != FORMATS.get(self.format, self.format)


# The kinds of faults that a header alone shows: a kind, whether a header has it, and the message.
MISNAMED = "is a {0.format} by its content; give it that extension, since other programs trust the name"
HEADER_CHECKS: tuple[tuple[str, Callable[[Header], bool], str], ...] = (
    ("wrong-extension", lambda header: header.is_misnamed, MISNAMED),
    ("cut-off", lambda header: header.is_truncated, "lacks its last bytes, and is read without them; restore it"),
    ("several-frames", lambda header: header.has_frames, "holds several images, of which the first is used"),
    ("cmyk", lambda header: header.mode == "CMYK", "in the colours of print, which come out wrong; save it as RGB"),
    ("sixteen-bit", lambda header: header.mode[0] in "IF", "has more than 8 bits, unlike others; check its brightness"),
    ("alpha", lambda header: "alpha" in header.mode, "is partly transparent, unlike others; it is laid on white"),
)
ONLY_MIXED = {"sixteen-bit", "alpha"}  # kinds that are faults only if some of the files lack them


def read_headers(files: Sequence[ListedImage]) -> tuple[dict[int, Header], list[Fault]]:
    """Return the headers of files, by the file's index, and the faults of files that cannot be read."""
    results = dict(enumerate(map_in_threads(read_header, files)))
    headers = {i: result for i, result in results.items() if isinstance(result, Header)}
    return headers, [result for result in results.values() if isinstance(result, Fault)]


def read_header(file: ListedImage) -> Header | Fault:
    """Return the header of a file, or a fault if it cannot be read."""
    try:
        with open_image(file.path) as image:
            return header_of(image, file, file.path.stat().st_size)
    except Exception as error:
        return read_error(file, error)


def header_of(image: Pillow.Image, file: ListedImage, length: int) -> Header:
    """Return the header of an image that is open and not yet decoded, in a file of `length` bytes."""
    alpha = image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
    mode = f"{image.mode}+alpha" if alpha else image.mode
    # Only some of PIL's formats have the attribute. Cameras add a preview to MPO files.
    has_frames = getattr(image, "is_animated", False) and image.format != "MPO"
    suffix = file.path.suffix.lower()
    return Header(length, suffix, image.format or "", mode, image.height, image.width, has_frames)


def read_error(file: ListedImage, error: Exception) -> Fault:
    """Return the fault for an exception that reading a file raised. A broken file may raise any exception."""
    if isinstance(error, FileNotFoundError):
        return fault("image-missing", file, "no such file; restore it, or take it out of the annotations")
    if isinstance(error, UnidentifiedImageError):
        if not file.path.stat().st_size:
            return fault("empty", file, "an empty file; restore or remove it")
        return fault("not-an-image", file, "not an image that can be read; restore or remove it")
    return fault("unreadable", file, f"cannot be read ({str(error) or type(error).__name__}); restore or remove it")


def header_faults(files: Sequence[ListedImage], headers: dict[int, Header]) -> list[Fault]:
    """Return the faults that headers show. headers: by the index of the file."""
    values = list(headers.values())
    return faults_where(files, headers, chain(_mode_checks(values), _size_checks(values)))


def faults_where(files: Sequence[ListedImage], headers: dict[int, Header], checks: Iterable[Check]) -> list[Fault]:
    """Return the faults of the files for which a check is true, and put values of their headers into the messages."""
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
        if kind not in ONLY_MIXED or not all(is_faulty):
            yield kind, is_faulty, message
    is_grey = np.array([header.mode.split("+")[0] in GREY or header.mode.startswith("I;") for header in headers])
    if is_grey.sum() * 2 > len(headers):
        yield "mixed-colour", ~is_grey, "in colour, among grey images; --data.channels says which"
    else:
        yield "mixed-colour", is_grey, "grey, among colour images; fine if it is meant, else find its original"


def _size_checks(headers: list[Header]) -> Iterator[Check]:
    """Yield checks for sizes and aspects far outside the quartiles.

    If nearly all are equal, the quartiles coincide, and an odd size differs by a fixed factor.
    """
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
