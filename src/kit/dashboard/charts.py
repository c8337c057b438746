"""Show the results of each class: draw a confusion matrix and bars, uint8 [3 H W], and log precision-recall curves."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image as Pillow
from PIL import ImageDraw
from torch import Tensor

from kit.dashboard.tensorboard import TensorBoard
from kit.evaluation import Details
from kit.ground.drawing import BACKGROUND, GREY, WHITE, font, zoomed

MAX_NAMED = 60  # a confusion matrix of more classes has no names
MAX_NUMBERED = 25  # a confusion matrix of more classes has no numbers
MAX_BARS = 60  # further classes have no bar
MAX_NAME_LENGTH = 24  # longer class names are cut off
MAX_SIDE, MAX_CELL = 700, 44  # pixels: the largest side of the cells together, and of one cell
ROW_HEIGHT, BAR_LENGTH = 20, 360  # pixels
COLD, WARM = (38, 43, 51), (255, 186, 73)  # colours of a cell with 0 % and 100 % of its row
BAR = (88, 157, 246)


def log_details(board: TensorBoard, details: Details, class_names: Sequence[str], step: int) -> None:
    """Log the result of `Evaluation.details` as pictures and curves."""
    for name, chart in class_charts(details, class_names).items():
        board.log_picture(f"validation/{name}", chart, step)
    for name, entry in details.get("precision_recall", {}).items():
        board.log_precision_recall(f"precision_recall/{name}", entry["curve"], entry["positives"], step)


def class_charts(details: Details, class_names: Sequence[str]) -> dict[str, Tensor]:
    """Return the pictures of `Evaluation.details`: `confusion`, and the bars with their metric's name as key."""
    charts = {}
    if "confusion" in details:
        charts["confusion"] = draw_confusion(details["confusion"], class_names)
    if by_class := details.get("by_class"):
        metric = next(iter(by_class)).partition("/")[0]
        charts[metric] = draw_bars({key.partition("/")[2]: value for key, value in by_class.items()})
    return charts


def draw_confusion(counts: Tensor, class_names: Sequence[str]) -> Tensor:
    """Draw a confusion matrix. The larger a cell's share of its row, the lighter the cell.

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
    return _to_tensor(canvas)


def draw_bars(values: Mapping[str, float]) -> Tensor:
    """Draw a bar for each class, with the lowest value first. Draw at most `MAX_BARS` bars, those of the lowest values.

    Args:
        values: the value of each class by its name, from 0 to 1.
    """
    lowest = sorted((value, name[:MAX_NAME_LENGTH]) for name, value in values.items())[:MAX_BARS]
    hidden_count, label_font = len(values) - len(lowest), font(12)
    left = 12 + round(max(label_font.getlength(name) for _, name in lowest))
    right = left + BAR_LENGTH
    canvas = Pillow.new("RGB", (right + 60, ROW_HEIGHT * (len(lowest) + (hidden_count > 0)) + 8), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    for i, (value, name) in enumerate(lowest):
        top, middle, bottom = i * ROW_HEIGHT + 7, (i + 0.5) * ROW_HEIGHT + 4, (i + 1) * ROW_HEIGHT
        pen.text((left - 6, middle), name, WHITE, label_font, "rm")
        pen.rectangle((left, top, right, bottom), fill=COLD)
        pen.rectangle((left, top, left + round(BAR_LENGTH * value), bottom), fill=BAR)
        pen.text((right + 8, middle), f"{value:.3f}", WHITE, label_font, "lm")
    if hidden_count:
        last_row = (left, (len(lowest) + 0.5) * ROW_HEIGHT + 4)
        pen.text(last_row, f"and {hidden_count} better ones", GREY, label_font, "lm")
    return _to_tensor(canvas)


def _to_tensor(canvas: Pillow.Image) -> Tensor:
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1)
