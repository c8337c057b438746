"""Decode a file or a PIL image to a uint8 tensor.

PIL can decode a JPEG at a fraction of its size, and so is faster than `torchvision.io.decode_image` at all sizes that
matter here (benchmarks/image_folder.py).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from kit.data.levels import Levels, is_deep, to_eight_bits
from kit.ground.errors import BrokenFiles, UnreachableFiles, UserError
from kit.ground.files import open_image
from kit.ground.ranges import PositiveInt

EXTENSIONS = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
EXTENSIONS |= {".ppm", ".pgm", ".pbm"}
ImageSize = tuple[PositiveInt, PositiveInt]  # height and width
Channels = Literal[1, 3, 4]  # grey, RGB, RGBA
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # PIL's mode for each number of channels
EXIF_ORIENTATION = 0x0112
MAX_PIXELS = 100_000_000  # the largest number of pixels (height times width) of an image size in a config
PADDING = 114  # a grey near the mean of most images
UPRIGHT = {  # the operation that turns an image of an EXIF orientation upright; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
JPEGS = ("JPEG", "MPO")  # PIL's names for the format; MPO files come from cameras and hold several images


def decode(
    path: Path, channels: int, size: tuple[int, int] | None, keep_aspect: bool = False, levels: Levels | None = None
) -> Tensor:
    """Decode an image file to 8 bits, turn it upright, and replace transparent parts by white.

    If the file has several frames, the first one is read.

    Args:
        path: a file of any format that PIL reads.
        channels: 1 for grey, 3 for RGB, 4 for RGBA, which keeps transparency.
        size: height and width to resize to; None keeps the image's size.
        keep_aspect: fit the image into `size` and pad its right or bottom, instead of stretching it.
        levels: for pixels with more than 8 bits, the value that becomes black and the value that becomes white; None
            finds both in the image.

    Returns:
        uint8 [channels H W]

    Raises:
        BrokenFiles: the file is cut off, empty or not an image, or too dark: see `require_shades`.
        UnreachableFiles: the system cannot read the file, which may be intact.
    """
    return decode_with_orientation(path, channels, size, keep_aspect, levels)[0]


def decode_with_orientation(
    path: Path, channels: int, size: tuple[int, int] | None, keep_aspect: bool, levels: Levels | None = None
) -> tuple[Tensor, tuple[int, int], int]:
    """Return the result of `decode`, the upright image's original height and width, and its EXIF orientation."""
    with broken_file_errors(path), open_image(path) as image, require_shades(image):
        original, orientation = upright_size(image), orientation_of(image)
        target = fitted_size(original, size) if size and keep_aspect else size
        if target and image.mode in ("RGB", "L"):
            # PIL decodes a JPEG to at least this width and height. EXIF may swap them.
            image.draft(image.mode, (target[1], target[0]) if orientation == 1 else (max(target), max(target)))
        return pad(to_tensor(image, channels, target, levels), size or original), original, orientation


def verify(path: Path) -> tuple[tuple[int, int], int]:
    """Return the upright image's height and width, and its EXIF orientation, if a file can be decoded.

    This is faster than `decode`.

    Raises:
        BrokenFiles, UnreachableFiles: see `decode`.
    """
    with broken_file_errors(path), open_image(path) as image, require_shades(image):
        header = upright_size(image), orientation_of(image)
        image.draft("L", (1, 1))  # decodes a JPEG in grey and at an eighth of its size
        image.load()
        if is_deep(image.mode):
            to_eight_bits(image, None)
    return header


@contextmanager
def require_shades(image: Image.Image) -> Iterator[None]:
    """Refuse a 16-bit colour image that is nearly black in its upper 8 bits, since PIL reads only these bits.

    Enter this before the image's pixels are decoded, and leave it afterwards.

    Raises:
        ValueError: the upper 8 bits of all colours are below 16, and not all 0. Transparency does not count.
    """
    tiles = getattr(image, "tile", ())  # until the pixels are decoded, tiles state the bit depth of the file
    has_sixteen_bits = any(";16" in str(tile.args) for tile in tiles) and not is_deep(image.mode)
    yield
    if not has_sixteen_bits:
        return
    has_alpha = image.getbands()[-1] in ("A", "a")
    colours = np.asarray(image)[..., :-1] if has_alpha else np.asarray(image)
    if 0 < (largest := int(colours.max())) < 16:
        raise ValueError(f"only {largest + 1} shades of its 16-bit colours would be left; save it with 8 bits")


@contextmanager
def broken_file_errors(path: Path) -> Iterator[None]:
    """Turn PIL's exceptions for a file into `BrokenFiles` or `UnreachableFiles` that name the file."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        if not path.parent.is_dir():  # a disk or a network share is gone
            raise UnreachableFiles(f"{path}: its folder does not exist") from None
        raise BrokenFiles(f"{path}: no such file") from None
    except UnidentifiedImageError:
        why = "not an image that can be read; convert it to JPEG or PNG" if path.stat().st_size else "an empty file"
        raise BrokenFiles(f"{path}: {why}") from None
    except Exception as error:  # PIL may raise any exception for a broken file
        if isinstance(error, OSError) and error.errno is not None:
            raise UnreachableFiles(f"{path}: {error.strerror}") from None
        raise BrokenFiles(f"{path}: {error or type(error).__name__}") from None


def pad(pixels: Tensor, size: Sequence[int], value: int = PADDING) -> Tensor:
    """Pad uint8 [... H W] with a value, by default grey, at its right and bottom to `size`, a height and width."""
    right, bottom = size[1] - pixels.shape[-1], size[0] - pixels.shape[-2]
    return F.pad(pixels, (0, right, 0, bottom), value=value) if right or bottom else pixels


def to_tensor(image: Image.Image, channels: int, size: tuple[int, int] | None, levels: Levels | None = None) -> Tensor:
    """Turn a PIL image of any mode upright and convert it to uint8 [channels H W]; for the arguments see `decode`.

    Raises:
        ValueError: a pixel is not finite.
    """
    image = turn_upright(image)
    if is_deep(image.mode):
        image = to_eight_bits(image, levels)
    if channels < 4 and (image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info):
        image = image.convert("RGBA")  # the colours of transparent pixels have no meaning
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    if image.mode != MODES[channels]:
        image = image.convert(MODES[channels])
    pixels = torch.from_numpy(np.array(image))
    pixels = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    return resize(pixels, size) if size else pixels


def fitted_size(inner: tuple[int, int], outer: tuple[int, int]) -> tuple[int, int]:
    """Scale the height and width `inner` to fit into `outer`, keeping the aspect ratio, with at least 1 pixel each."""
    factor = min(outer[0] / inner[0], outer[1] / inner[1])
    return max(1, round(inner[0] * factor)), max(1, round(inner[1] * factor))


def validate_size(size: Sequence[int] | None, name: str) -> tuple[int, int] | None:
    """Return the image size in the config entry `name` as a tuple (height, width), or None.

    Raises:
        UserError: a side is not a whole number above 0, or the image would have more than `MAX_PIXELS` pixels.
    """
    if size is None:
        return None
    if len(size) != 2 or any(type(side) is not int or side < 1 for side in size) or size[0] * size[1] > MAX_PIXELS:
        raise UserError(f"{name} is {list(size)}, but must be a height and a width above 0, <= {MAX_PIXELS:,} pixels")
    return size[0], size[1]


def resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize uint8 [C H W] to `size`, a height and width, bilinearly, with antialiasing."""
    if tuple(pixels.shape[-2:]) == tuple(size):
        return pixels
    # Decoded files have channels last. The kernel for channels first fails for an output of one pixel (torch 2.14).
    planes = pixels[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(planes, size, mode="bilinear", antialias=True)[0]


def find_channels(paths: Sequence[Path]) -> int:
    """Return 3 if any image is coloured by its header, else 1. At most 63 evenly spaced images are read."""
    for path in paths[:: max(1, len(paths) // 32)]:
        with suppress(Exception), open_image(path) as image:  # decoding reports broken files later
            if image.mode not in ("1", "L", "LA") and not is_deep(image.mode):
                return 3
    return 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return the height and width that the image has after it is turned upright."""
    on_its_side = orientation_of(image) > 4 and image.format != "TIFF"  # PIL swaps a TIFF's sides on opening
    return (image.width, image.height) if on_its_side else (image.height, image.width)


def read_upright_size(path: Path, quick: bool = False) -> tuple[tuple[int, int], int] | None:
    """Return an image file's upright height and width and its EXIF orientation, or None if it cannot be read.

    Args:
        path: the file.
        quick: ignore the EXIF orientation of a PNG. It may be stored after the pixels, which take long to read.
    """
    with suppress(Exception), open_image(path) as image:  # decoding reports broken files later
        if quick and image.format == "PNG":
            return (image.height, image.width), 1
        return upright_size(image), orientation_of(image)
    return None


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 (upright) if it cannot be read, as image viewers assume."""
    if image.format == "PNG":
        image.load()  # the EXIF data may follow the pixels; errors in the pixels must not be suppressed below
    with suppress(Exception):  # PIL may raise any exception for broken EXIF data
        if (orientation := image.getexif().get(EXIF_ORIENTATION)) in UPRIGHT:
            return orientation
    return 1


def turn_upright(image: Image.Image) -> Image.Image:
    """Turn an image upright by its EXIF orientation."""
    image.load()  # PIL turns a TIFF when it decodes it
    orientation = orientation_of(image)
    return image.transpose(UPRIGHT[orientation]) if orientation != 1 else image
