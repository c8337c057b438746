"""From a file, or a PIL image, to a uint8 tensor.

PIL decodes JPEGs at a fraction of their size when that is all that is wanted, which made it faster than
`torchvision.io.decode_image` at any size that matters here (benchmarks/image_folder.py).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from project import BrokenFiles, UserError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"}
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
EXIF_ORIENTATION = 0x0112
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # what PIL raises of a broken file
MOST_PIXELS = 100_000_000  # of a size that is asked for
PADDING = 114  # a grey that is near most images' mean


def decode(path: Path, channels: int, size: tuple[int, int] | None, keep_aspect: bool = False) -> Tensor:
    """The image as it is meant to be seen: upright, 8 bits, transparent parts white.

    Args:
        path: any format that PIL reads; of several frames the first.
        channels: 1 grey, 3 RGB, 4 RGBA.
        size: height and width to resize to; None keeps the image's own.
        keep_aspect: fit the image into `size` and pad it at its right or bottom, instead of stretching it.

    Returns:
        uint8 [channels H W]

    Raises:
        BrokenFiles: the file cannot be read, is cut off, is empty, or is no image.
    """
    return decode_with_size(path, channels, size, keep_aspect)[0]


def decode_with_size(
    path: Path, channels: int, size: tuple[int, int] | None, keep_aspect: bool
) -> tuple[Tensor, tuple[int, int]]:
    """What `decode` gives, and the image's own height and width, upright."""
    try:
        with Image.open(path) as image:
            own = upright_size(image)
            wanted = fit(own, size) if size and keep_aspect else size
            if wanted and image.mode in ("RGB", "L"):
                # JPEG only, a no-op elsewhere; it never goes below the asked size, and a turned image swaps its sides.
                image.draft(image.mode, (max(wanted), max(wanted)) if _turned(image) else (wanted[1], wanted[0]))
            image.load()
            return padded(to_tensor(image, channels, wanted), size or own), own
    except FileNotFoundError:
        raise BrokenFiles(f"{path}: no such file") from None
    except UnidentifiedImageError:
        empty = path.stat().st_size == 0
        raise BrokenFiles(f"{path}: {'an empty file' if empty else 'not an image that can be read'}") from None
    except UNREADABLE as error:
        raise BrokenFiles(f"{path}: {error}") from None


def padded(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 [C h w] to uint8 [C size], with grey at its right and bottom."""
    right, bottom = size[1] - pixels.shape[2], size[0] - pixels.shape[1]
    return F.pad(pixels, (0, right, 0, bottom), value=PADDING) if right or bottom else pixels


def to_tensor(image: Image.Image, channels: int, size: tuple[int, int] | None) -> Tensor:
    """uint8 [channels H W] of a PIL image of any mode."""
    if _turned(image):
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
    if channels < 4 and (image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info):
        image = image.convert("RGBA")  # what lies under transparent pixels was never meant to be seen
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    if image.mode != MODES[channels]:
        image = image.convert(MODES[channels])
    pixels = torch.from_numpy(np.array(image))
    pixels = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    return resize(pixels, size) if size else pixels


def fit(inner: tuple[int, int], outer: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the largest image with the aspect of `inner` that fits into `outer`, at least one pixel."""
    factor = min(outer[0] / inner[0], outer[1] / inner[1])
    return max(1, round(inner[0] * factor)), max(1, round(inner[1] * factor))


def positive(size: Sequence[int] | None, name: str) -> tuple[int, int] | None:
    """A height and width that the user gave, or None.

    Raises:
        UserError: a side has no pixel, or is no whole number; or there are more pixels than any net is given.
    """
    if size is None:
        return None
    if len(size) != 2 or any(type(side) is not int or side < 1 for side in size):
        raise UserError(f"{name} is {list(size)}, but must be a height and a width above 0, whole numbers")
    if size[0] * size[1] > MOST_PIXELS:
        raise UserError(f"{name} is {list(size)}: more than {MOST_PIXELS:,} pixels")
    return size[0], size[1]


def resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 [C H W] to uint8 [C size], bilinear, with antialiasing."""
    if tuple(pixels.shape[-2:]) == tuple(size):
        return pixels
    # Channels last, as files are decoded: the other kernel fails where one pixel is wanted (torch 2.14).
    planes = pixels[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(planes, size, mode="bilinear", antialias=True)[0]


def channels_of(paths: list[Path], look: int = 32) -> int:
    """1 if the images are grey, 3 if any is coloured, by the headers of `look` of them, evenly spaced."""
    for path in paths[:: max(1, len(paths) // look)]:
        try:
            with Image.open(path) as image:
                if image.mode not in ("1", "L", "LA", "F") and not image.mode.startswith("I"):
                    return 3
        except OSError:
            continue  # reading it in full, later, names it and says why
    return 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width as the image is meant to be seen."""
    on_its_side = image.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    return (image.width, image.height) if on_its_side else (image.height, image.width)


def _turned(image: Image.Image) -> bool:
    return image.getexif().get(EXIF_ORIENTATION, 1) != 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """16 bits scaled to 8; `convert` would clip everything above 255 to white. Floats are taken as 0 to 1."""
    scale = 1.0 if image.mode == "F" else 65535.0
    values = np.asarray(image).astype(np.float32) / scale
    return Image.fromarray((values.clip(0, 1) * 255).round().astype(np.uint8))
