"""Draw a confusion matrix, for TensorBoard and for the HTML page."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image as Pillow
from PIL import ImageDraw
from torch import Tensor

from kit.ground.drawing import BACKGROUND, GREY, WHITE, font, zoomed

MAX_NAMED = 60  # a confusion matrix of more classes has no names
MAX_NUMBERED = 25  # a confusion matrix of more classes has no numbers
MAX_NAME_LENGTH = 24  # longer class names are cut off
MAX_SIDE, MAX_CELL = 700, 44  # pixels: the largest side of the cells together, and of one cell
COLD, WARM = (38, 43, 51), (255, 186, 73)  # colours of a cell with 0 % and 100 % of its row


def draw_confusion(counts: Tensor, class_names: Sequence[str]) -> Tensor:
    """Draw a confusion matrix, uint8 [3 H W]. The larger a cell's share of its row, the lighter the cell.

    With at most `MAX_NUMBERED` classes, the cells also show their share in per cent.

    Args:
        counts: Long[K K], with a row for each annotated class and a column for each predicted one.
        class_names: the names of the K classes.
    """
    num_classes = len(class_names)
    cell = max(1, min(MAX_CELL, MAX_SIDE // num_classes))  # the side of a cell, in pixels
    label_font = font(12 if cell >= 16 else 9)
    names = [name[:MAX_NAME_LENGTH] for name in class_names] if num_classes <= MAX_NAMED else []
    margin = 30 + round(max(map(label_font.getlength, names), default=0))
    shares = counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    colours = torch.tensor(COLD) + shares.sqrt()[..., None] * (torch.tensor(WARM) - torch.tensor(COLD))  # [K K 3]
    colours[counts.sum(1) == 0] = torch.tensor(BACKGROUND).double()  # this class has no samples
    cells = zoomed(colours.round().to(torch.uint8).permute(2, 0, 1), cell)
    side = margin + cell * num_classes
    canvas = Pillow.new("RGB", (max(side, 220), side), BACKGROUND)
    column_names = Pillow.new("RGB", (margin - 20, cell * num_classes), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    for i, name in enumerate(names):
        pen.text((margin - 5, margin + (i + 0.5) * cell), name, WHITE, label_font, "rm")
        ImageDraw.Draw(column_names).text((5, (i + 0.5) * cell), name, WHITE, label_font, "lm")
    canvas.paste(column_names.rotate(90, expand=True), (margin, 20))
    canvas.paste(Pillow.fromarray(cells.permute(1, 2, 0).numpy()), (margin, margin))
    if num_classes <= MAX_NUMBERED:
        for (row, column), share in np.ndenumerate(shares.numpy()):
            if counts[row, column]:
                text = f"{100 * share:.0f}" if share >= 0.005 else "<1"
                centre = (margin + (column + 0.5) * cell, margin + (row + 0.5) * cell)
                pen.text(centre, text, (0, 0, 0) if share > 0.25 else WHITE, label_font, "mm")
    pen.text((5, 4), "rows: annotated, columns: predicted", GREY, font(12))
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1)
