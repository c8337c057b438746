"""Draw the common elements of all tasks' pictures: class colours, labels, captions, legends and grids."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from math import ceil
from pathlib import Path

import torch
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2.functional import pad, pil_to_tensor, to_pil_image

from kit.ground.files import replacing
from kit.ground.terminal import escape

Colour = tuple[int, int, int]  # red, green and blue, 0 to 255

WHITE, BLACK, GREY = (255, 255, 255), (0, 0, 0), (150, 150, 150)
GREEN, RED = (90, 200, 110), (255, 95, 85)
BACKGROUND = (24, 27, 32)  # the colour behind captions and between images
TEXT_SIZE = 13  # the default size of texts, in pixels
PADDING = 3  # pixels around a label's text
MAX_LINE = 16  # the width that a caption may have even if its image is narrower, as a multiple of the text size
MAX_SIDE = 8192  # the longest side of an enlarged image, in pixels
# Orange, the colour of class 0. `_palette` then does not choose red for the next classes, since red marks errors.
FIRST_COLOUR = (255, 153, 0)
NUM_COLOURS = 255
# The CIE's X, Y and Z of linear red, green and blue (IEC 61966-2-1).
RGB_TO_XYZ = torch.tensor([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).double()

_text_size: ContextVar[int | None] = ContextVar("text_size", default=None)  # pixels, see `text_size`


@contextmanager
def text_size(size: int) -> Iterator[None]:
    """Draw texts of this size in the `with` block, in pixels. A picture that is shrunk later needs larger texts."""
    token = _text_size.set(size)
    try:
        yield
    finally:
        _text_size.reset(token)


def current_text_size(default: int = TEXT_SIZE) -> int:
    """Return the size of texts in pixels: the size that `text_size` has set, or the default outside of its block."""
    return _text_size.get() or default


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which matplotlib ships. Its size is in pixels."""
    import matplotlib as mpl  # this import takes a tenth of a second

    return ImageFont.truetype(f"{mpl.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


@cache
def _characters() -> frozenset[int]:
    """Return the code points of the characters that the font has."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(font(1).path).get_charmap())


def drawable(text: str) -> str:
    r"""Return a text in one line. Characters that the font lacks are escaped: `\n`, `\x1b`, or `\u732b` (Chinese)."""
    text = escape(text)
    if text.isascii():
        return text
    return "".join(c if ord(c) in _characters() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, width: int) -> str:
    """Return a text or, if it does not fit into a label of this width, an ellipsis and the end that fits."""
    text = drawable(text)
    if label_size(text)[0] <= width:
        return text
    starts = range(1, len(text))
    return f"…{text[1 + bisect_left(starts, -width, key=lambda start: -label_size(f'…{text[start:]}')[0]) :]}"


def save_picture(image: Tensor, file: Path, quality: int = 90) -> None:
    """Write uint8 [C H W] to a PNG or JPEG file, by its extension. If this fails, no part of the file is left."""
    with replacing(file) as temporary:
        to_pil_image(image).save(temporary, "PNG" if file.suffix == ".png" else "JPEG", quality=quality)


def class_colour(label: int) -> Colour:
    """Return the colour of a class, given its index from 0. Indices that differ by 255 have the same colour."""
    return _palette()[label % NUM_COLOURS]


@cache
def _palette() -> list[Colour]:
    """Return colours that are far apart in CIE Lab: each is as far as possible from those before it.

    The method is that of Glasbey et al. 2007, "Colour displays for categorical images". The colours are neither grey,
    nor nearly black or white, so that they differ from most images.
    """
    levels = torch.arange(0, 256, 17, dtype=torch.double)
    candidates = torch.cartesian_prod(levels, levels, levels)
    lightness, chroma = to_lab(candidates)[:, 0], to_lab(candidates)[:, 1:].norm(dim=1)
    candidates = candidates[(lightness > 35) & (lightness < 90) & (chroma > 30)]
    points, colours = to_lab(candidates), [FIRST_COLOUR]
    distances = torch.cdist(points, to_lab(torch.tensor([WHITE, (128, 128, 128), BLACK]))).amin(1)
    while len(colours) < NUM_COLOURS:
        distances = distances.minimum(torch.cdist(points, to_lab(torch.tensor(colours[-1:])))[:, 0])
        red, green, blue = candidates[distances.argmax()].int().tolist()
        colours.append((red, green, blue))
    return colours


def to_lab(colours: Tensor) -> Tensor:
    """Convert sRGB colours, [N 3] from 0 to 255, to CIE Lab (white point D65), Float64[N 3]."""
    values = colours.double() / 255
    linear = ((values + 0.055) / 1.055).pow(2.4).where(values > 0.04045, values / 12.92)
    xyz = linear @ RGB_TO_XYZ.T / RGB_TO_XYZ.sum(1)  # X, Y and Z of white are 1
    x, y, z = xyz.pow(1 / 3).where(xyz > 0.008856, 7.787 * xyz + 16 / 116).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def to_rgb(image: Tensor) -> Tensor:
    """Convert uint8 [C H W] to uint8 [3 H W]: repeat the first of 1 or 2 channels, or drop those after the third."""
    return image[:1].expand(3, -1, -1) if len(image) < 3 else image[:3]


def zoom_factor(image: Tensor, side: int = 220) -> int:
    """Return an integer factor, at least 1, that enlarges an image's shorter side to about `side` pixels.

    The factor is smaller if the longer side would exceed `MAX_SIDE`.
    """
    shorter, longer = sorted(image.shape[-2:])
    return max(1, min(round(side / shorter), MAX_SIDE // longer))


def zoomed(image: Tensor, factor: int) -> Tensor:
    """Enlarge an image [... H W]: each pixel becomes `factor` x `factor` pixels. Factor 1 returns the image itself."""
    if factor == 1:
        return image
    return image.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def draw_texts(image: Tensor, labels: Sequence[tuple[tuple[float, float], str, Colour]]) -> Tensor:
    """Draw texts on coloured rectangles.

    Args:
        image: uint8 [3 H W].
        labels: (corner, text, colour) of each label: the left top corner (x, y) of its rectangle in pixels, its text,
            and the colour of its rectangle. A label that would leave the image is moved into it.
    """
    canvas = to_pil_image(image)
    pen = ImageDraw.Draw(canvas)
    for (left, top), text, fill in labels:
        width, height = label_size(text)
        x = max(0, min(round(left), canvas.width - width))
        y = max(0, min(round(top), canvas.height - height))
        pen.rectangle((x, y, x + width - 1, y + height - 1), fill=fill)
        _write(pen, (x + PADDING, y + height / 2), text, text_colour(fill))
    return pil_to_tensor(canvas)


def text_colour(fill: Colour) -> Colour:
    """Return black or white, whichever is easier to read on a colour."""
    luminance = 0.3 * fill[0] + 0.59 * fill[1] + 0.11 * fill[2]  # 0 to 255
    return BLACK if luminance > 110 else WHITE


def label_size(text: str) -> tuple[int, int]:
    """Return the width and height of a label with its rectangle, in pixels."""
    size = current_text_size()
    return round(font(size).getlength(drawable(text))) + 2 * PADDING, size + 2 * PADDING


def _write(pen: ImageDraw.ImageDraw, point: tuple[float, float], text: str, colour: Colour) -> None:
    """Write a text. `point` is the middle of the text's left edge, (x, y)."""
    pen.text(point, drawable(text), fill=colour, font=font(current_text_size()), anchor="lm")


def add_caption(image: Tensor, lines: Sequence[tuple[str, Colour]]) -> Tensor:
    """Add lines of coloured text below an image, uint8 [3 H W].

    The result is wider than the image if a line is wider. A line that is wider than both the image and about 30 letters
    is cut at its start.
    """
    line_height = label_size("")[1]
    limit = max(image.shape[2], MAX_LINE * current_text_size())
    lines = [(shortened(text, limit), colour) for text, colour in lines]
    width = max([image.shape[2], *(label_size(text)[0] for text, _ in lines)])
    canvas = Pillow.new("RGB", (width, len(lines) * line_height), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    for i, (text, colour) in enumerate(lines):
        _write(pen, (PADDING, (i + 0.5) * line_height), text, colour)
    return stacked([image, pil_to_tensor(canvas)])


def legend(names: Sequence[tuple[str, Colour]], width: int) -> Tensor:
    """Draw (text, colour) labels in rows: uint8 [3 h w]. The rows are wider than `width` only if a label is wider."""
    sizes = [label_size(text) for text, _ in names]
    plates = [torch.empty(3, label_height, label_width, dtype=torch.uint8) for label_width, label_height in sizes]
    labels = [draw_texts(plate, [((0, 0), *name)]) for plate, name in zip(plates, names, strict=True)]
    return grid(labels, width, gap=2) if labels else torch.empty(3, 0, 1, dtype=torch.uint8)


def side_by_side(images: Sequence[Tensor], gap: int = 4) -> Tensor:
    """Put images, uint8 [3 H W], beside each other. The result is as high as the highest image.

    A single image is returned as it is.
    """
    if len(images) == 1:
        return images[0]
    height = max(image.shape[1] for image in images)
    # Pixels to add at the left, top, right and bottom of each image.
    padding = [[gap if i > 0 else 0, 0, 0, height - image.shape[1]] for i, image in enumerate(images)]
    # `pad` copies even if there is nothing to add, and a copy of a large image needs much memory.
    padded = [
        pad(image, sides, fill=BACKGROUND) if any(sides) else image
        for image, sides in zip(images, padding, strict=True)
    ]
    return torch.cat(padded, dim=2)


def stacked(images: Sequence[Tensor], gap: int = 0) -> Tensor:
    """Put images, uint8 [3 H W], below each other. The result is as wide as the widest image."""
    return side_by_side([image.transpose(1, 2) for image in images], gap).transpose(1, 2)


def grid(images: Sequence[Tensor], width: int, gap: int = 8) -> Tensor:
    """Put images, uint8 [3 H W], into rows of at most `width` pixels, with about equally many images."""
    columns = max(1, (width + gap) // (max(image.shape[2] for image in images) + gap))
    return in_columns(images, ceil(len(images) / ceil(len(images) / columns)), gap)


def in_columns(images: Sequence[Tensor], columns: int, gap: int) -> Tensor:
    """Put images, uint8 [3 H W], into rows of `columns` images."""
    rows = [side_by_side(images[start : start + columns], gap) for start in range(0, len(images), columns)]
    return stacked(rows, gap)
