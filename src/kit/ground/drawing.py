"""What pictures of every task are made of: colours of classes, words, and images enlarged and put together."""

import colorsys
from collections.abc import Sequence
from functools import cache
from math import ceil

import numpy as np
import torch
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from torch import Tensor

Colour = tuple[int, int, int]

WHITE, GREY, GREEN, RED = (255, 255, 255), (150, 150, 150), (90, 200, 110), (255, 95, 85)
GROUND = (24, 27, 32)  # behind words and between images
TEXT_SIZE = 13
PADDING = 3  # pixels around words
MOST_ENLARGED = 8192  # pixels of a side: a JPEG has 65,500 at most
BLUE = 0.6  # the hue of the first class, which often is the background
GOLDEN_RATIO = 0.618034  # as a step around the circle of hues it keeps neighbours apart, however many there are


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own, which it would unpack anew each time."""
    return ImageFont.load_default(size)


def colour(place: int) -> Colour:
    """Of the class with this number, from 0; the same in all pictures."""
    hue, late = (BLUE + place * GOLDEN_RATIO) % 1, place // 8 % 2
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.55 if late else 0.85, 0.8 if late else 1)
    return round(255 * red), round(255 * green), round(255 * blue)


def in_colour(image: Tensor) -> Tensor:
    """uint8 [3 H W] of uint8 [C H W]: grey becomes three channels, and what is beyond the third is left out."""
    return image[:1].expand(3, -1, -1) if len(image) < 3 else image[:3]


def enlargement(image: Tensor, least: int = 128) -> int:
    """By what whole number an image's sides are multiplied so that the shorter one has about `least` pixels.

    Less where the longer one would be over `MOST_ENLARGED`.
    """
    shorter, longer = sorted(image.shape[-2:])
    return max(1, min(round(least / shorter), MOST_ENLARGED // longer))


def enlarged(image: Tensor, factor: int) -> Tensor:
    """Every pixel becomes a square of `factor` x `factor`."""
    return image.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def write(image: Tensor, words: Sequence[tuple[tuple[float, float], str, Colour]]) -> Tensor:
    """Words on plates of their colours. Pillow's own font has ASCII's alone: other letters are empty boxes.

    Args:
        image: uint8 [3 H W].
        words: for each its place (left, top), which is moved so that it stays in the image, the word and the colour.
    """
    canvas = Pillow.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    pen, letters = ImageDraw.Draw(canvas), font(TEXT_SIZE)
    for (left, top), word, plate in words:
        width, height = plate_size(word)
        x = max(0, min(round(left), canvas.width - width))
        y = max(0, min(round(top), canvas.height - height))
        pen.rectangle((x, y, x + width - 1, y + height - 1), fill=plate)
        ink = (0, 0, 0) if np.dot(plate, (0.3, 0.59, 0.11)) > 110 else WHITE
        pen.text((x + PADDING, y + height / 2), printable(word), fill=ink, font=letters, anchor="lm")
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1)


def printable(word: str) -> str:
    """On one line: names of classes and files may have line breaks, and bytes that are no letters."""
    return "".join(letter if letter.isprintable() else " " for letter in word)


def plate_size(word: str) -> tuple[int, int]:
    """Width and height in pixels of a word with its plate."""
    return round(font(TEXT_SIZE).getlength(printable(word))) + 2 * PADDING, TEXT_SIZE + 2 * PADDING


def captioned(image: Tensor, words: Sequence[tuple[str, Colour]]) -> Tensor:
    """Lines of words in their colours below an image, uint8 [3 H W], which is widened for them if it must be."""
    letters, line = font(TEXT_SIZE), TEXT_SIZE + 2 * PADDING
    width = max([image.shape[2], *(plate_size(word)[0] for word, _ in words)])
    canvas = Pillow.new("RGB", (width, len(words) * line), GROUND)
    pen = ImageDraw.Draw(canvas)
    for place, (word, ink) in enumerate(words):
        pen.text((PADDING, (place + 0.5) * line), printable(word), fill=ink, font=letters, anchor="lm")
    strip = torch.from_numpy(np.array(canvas)).permute(2, 0, 1)
    return torch.cat([_padded(image, image.shape[1], width), strip], 1)


def legend(names: Sequence[tuple[str, Colour]], width: int) -> Tensor:
    """Plates with words in rows of at most `width` pixels (or as wide as the widest), uint8 [3 h width]."""
    sizes = [plate_size(name) for name, _ in names]
    width = max([width, *(w for w, _ in sizes)])
    words: list[tuple[tuple[float, float], str, Colour]] = []
    x, y, row = 0, 0, TEXT_SIZE + 2 * PADDING
    for (name, plate), (own, _) in zip(names, sizes, strict=True):
        if x + own > width:
            x, y = 0, y + row + 1
        words.append(((x, y), name, plate))
        x += own + 2
    return write(_filled(y + row if names else 0, width), words) if names else _filled(0, width)


def beside(images: Sequence[Tensor], gap: int = 4) -> Tensor:
    """Images uint8 [3 H W] from left to right, as high as the highest."""
    height = max(image.shape[1] for image in images)
    parts = [_padded(image, height, image.shape[2] + (gap if place else 0)) for place, image in enumerate(images[::-1])]
    return torch.cat(parts[::-1], 2)


def below(images: Sequence[Tensor], gap: int = 0) -> Tensor:
    """Images uint8 [3 H W] from top to bottom, as wide as the widest."""
    return beside([image.transpose(1, 2) for image in images], gap).transpose(1, 2)


def grid(images: Sequence[Tensor], width: int, gap: int = 8) -> Tensor:
    """Images uint8 [3 H W] in rows of at most `width` pixels, and of about equally many."""
    fitting = max(1, (width + gap) // (max(image.shape[2] for image in images) + gap))
    in_row = ceil(len(images) / ceil(len(images) / fitting))
    return below([beside(images[start : start + in_row], gap) for start in range(0, len(images), in_row)], gap)


def _filled(height: int, width: int) -> Tensor:
    return torch.tensor(GROUND, dtype=torch.uint8)[:, None, None].expand(3, height, width)


def _padded(image: Tensor, height: int, width: int) -> Tensor:
    """At the bottom and at the right."""
    if image.shape[1:] == (height, width):
        return image
    padded = _filled(height, width).clone()
    padded[:, : image.shape[1], : image.shape[2]] = image
    return padded
