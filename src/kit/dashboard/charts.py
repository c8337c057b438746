"""Numbers of classes as pictures: uint8 [3 H W]."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from torch import Tensor

from kit.ground.drawing import BACKGROUND, GREY, WHITE, font

MOST_NAMED = 60  # classes: beyond that a confusion matrix has no room for names
MOST_NUMBERED = 25  # beyond that none for numbers
MOST_BARS = 60
SIDE = 700  # of a confusion matrix, in pixels
LONGEST_NAME = 24  # letters
COLD, WARM = (38, 43, 51), (255, 186, 73)  # of a cell: none of a class's samples, and all of them
BAR = (88, 157, 246)


def confusion(counts: Tensor, class_names: Sequence[str]) -> Tensor:
    """A row for each annotated class, a column for each predicted one; the lighter a cell, the larger its share of the
    row, which stands in it in per cent.

    Args:
        counts: Long[K K].
    """
    classes = len(class_names)
    shares = counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    cell = max(1, min(44, SIDE // classes))
    named = classes <= MOST_NAMED
    names = [_short(name) for name in class_names]
    letters = font(12 if cell >= 16 else 9)
    edge = round(max(letters.getlength(name) for name in names)) + 10 if named else 0
    left, top = edge + 20, edge + 20
    colours = torch.tensor(COLD) + shares.sqrt()[..., None] * (torch.tensor(WARM) - torch.tensor(COLD))  # [K K 3]
    colours[counts.sum(1) == 0] = torch.tensor(BACKGROUND).double()  # there are none of this class
    table = colours.round().to(torch.uint8).repeat_interleave(cell, 0).repeat_interleave(cell, 1).numpy()
    canvas = Pillow.new("RGB", (left + cell * classes, max(top + cell * classes, 110)), BACKGROUND)
    canvas.paste(Pillow.fromarray(table), (left, top))
    pen = ImageDraw.Draw(canvas)
    if named:
        for place, name in enumerate(names):
            middle = (place + 0.5) * cell
            pen.text((left - 5, top + middle), name, fill=WHITE, font=letters, anchor="rm")
            _upright(canvas, name, (left + middle, top - 5), letters)
    if classes <= MOST_NUMBERED:
        for (row, column), share in np.ndenumerate(shares.numpy()):
            if counts[row, column]:
                ink, said = (0, 0, 0) if share > 0.25 else WHITE, f"{100 * share:.0f}" if share >= 0.005 else "<1"
                pen.text((left + (column + 0.5) * cell, top + (row + 0.5) * cell), said, ink, letters, "mm")
    pen.text((left, 4), "predicted", fill=GREY, font=letters)
    _upright(canvas, "annotated", (10, top + 70), letters, GREY)
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1)


def bars(values: Mapping[str, float]) -> Tensor:
    """A bar for each class, from 0 to 1, the lowest first; of many the lowest ones.

    Args:
        values: of class names.
    """
    ranked = sorted(values.items(), key=lambda item: item[1])
    shown, letters = ranked[:MOST_BARS], font(12)
    names = [_short(name) for name, _ in shown]
    edge = round(max(letters.getlength(name) for name in names)) + 12
    row, length = 20, 360
    more = len(ranked) - len(shown)
    canvas = Pillow.new("RGB", (edge + length + 60, row * (len(shown) + (more > 0)) + 8), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    for place, (name, (_, value)) in enumerate(zip(names, shown, strict=True)):
        top = 4 + place * row
        pen.text((edge - 6, top + row / 2), name, fill=WHITE, font=letters, anchor="rm")
        pen.rectangle((edge, top + 3, edge + length, top + row - 4), fill=COLD)
        pen.rectangle((edge, top + 3, edge + round(length * value), top + row - 4), fill=BAR)
        pen.text((edge + length + 8, top + row / 2), f"{value:.3f}", fill=WHITE, font=letters, anchor="lm")
    if more:
        pen.text((edge, 4 + (len(shown) + 0.5) * row), f"and {more} better ones", fill=GREY, font=letters, anchor="lm")
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"


def _upright(
    canvas: Pillow.Image,
    word: str,
    bottom: tuple[float, float],
    letters: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    ink: tuple[int, int, int] = WHITE,
) -> None:
    """Written from below upwards; `bottom` is the middle of its lower end."""
    plate = Pillow.new("RGB", (round(letters.getlength(word)) + 2, 16), BACKGROUND)
    ImageDraw.Draw(plate).text((0, 8), word, fill=ink, font=letters, anchor="lm")
    turned = plate.rotate(90, expand=True)
    canvas.paste(turned, (round(bottom[0]) - 8, round(bottom[1]) - turned.height))
