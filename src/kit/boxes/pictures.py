"""Draw annotated boxes, detected boxes, or both with the errors marked."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image as Pillow
from PIL import ImageDraw
from torch import Tensor
from torchvision.ops import box_iou
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from kit.boxes.matching import IN_CROWD, MIN_IOU, UNMATCHED, match_boxes
from kit.ground import drawing
from kit.ground.drawing import BLACK, GREEN, GREY, RED, Colour

MIN_SIDE = 240  # the approximate length of a picture's shorter side, in pixels: boxes need room for their names
MAX_NAMES = 4  # the largest number of objects that a label names; `+3` stands for three others
MAX_LABELS = 100  # if there are more objects, only errors have labels, which do not overlap
MIN_TEXT = 0.7  # a legend in one row may shrink to this share of its size
SAMPLE, GAP = 1.5, 0.6  # the lengths of a legend's lines and gaps, divided by the text size
AMBER = (255, 190, 0)  # the colour of false detections


class Line(NamedTuple):
    """The look of a box's outline. `width` is a multiple of the thinnest line's width."""

    colour: Colour
    width: int = 2
    is_dashed: bool = False


RIGHT, MISSED, FALSE, IGNORED = Line(GREEN, 1), Line(RED, 3), Line(AMBER, 2, True), Line(GREY, 1)
FROM_TOP = [FALSE, MISSED, RIGHT, IGNORED]  # the lines that cover others come first


class Object(NamedTuple):
    """A box to draw, XYXY in pixels of the image, with its text and its line."""

    box: list[float]
    text: str
    line: Line


def draw_boxes(
    image: Tensor,
    class_names: Sequence[str],
    predicted: Mapping[str, Tensor] | None = None,
    target: Mapping[str, Tensor] | None = None,
    min_score: float = 0.5,
) -> Tensor:
    """Draw annotated or detected boxes in the colours of their classes; or both, with the errors and a legend.

    If there are both, detections are matched with annotated boxes, see `match_boxes`. Detections with a match have thin
    green lines. Detections without a match have dashed amber lines. Annotated boxes without a match have thick red
    lines. Boxes at one place share one label, which is put where it covers the least of the objects. The label of a
    right detection is left out if it would cover any object. If there are more than 100 objects, only errors have
    labels, and there are at most 100 labels.

    Args:
        image: uint8 [C H W].
        class_names: the names of the labels 1 to K.
        predicted: `boxes` Float[N 4] XYXY in pixels of the image, `scores` Float[N], `labels` Long[N] from 1 to K.
        target: `boxes`, `labels` and optionally `crowd`, Bool[N]. Crowds are grey.
        min_score: the lowest score of a detection that is drawn.

    Returns:
        uint8 [3 H' W'].
    """
    factor = drawing.zoom_factor(image, MIN_SIDE)
    canvas = to_pil_image(drawing.zoomed(drawing.to_rgb(image), factor))
    objects = _list_objects(class_names, predicted, target, min_score)
    objects = [item._replace(box=[coordinate * factor for coordinate in item.box]) for item in objects]
    unit = max(1, round(min(canvas.size) / MIN_SIDE))  # the width of the thinnest line, in pixels
    pen, text_size = ImageDraw.Draw(canvas), max(drawing.TEXT_SIZE, min(canvas.size) // 24)
    text_size = drawing.current_text_size(text_size)
    from_top = sorted(objects, key=lambda item: FROM_TOP.index(item.line) if item.line in FROM_TOP else 0)
    for item in reversed(from_top):  # detections with high scores are drawn last, over others of the same kind
        _draw_outline(pen, item, unit)
    _draw_labels(pen, canvas.size, objects, text_size)
    drawn = pil_to_tensor(canvas)
    if predicted is None or target is None:
        return drawn
    lines = [item.line for item in objects]
    names = {RIGHT: "right", MISSED: "missed", FALSE: "false"}
    entries = [(line, f"{lines.count(line)} {name}") for line, name in names.items()]
    entries.append((Line(GREY, 0), f"score from {_short(min_score)}"))
    return drawing.stacked([drawn, _legend(entries, canvas.width, text_size, unit)])


def _list_objects(
    class_names: Sequence[str],
    predicted: Mapping[str, Tensor] | None,
    target: Mapping[str, Tensor] | None,
    min_score: float,
) -> list[Object]:
    """Return the boxes to draw: detections, highest score first, and then annotated boxes without a match."""
    objects, annotated = [], {}
    is_crowd = is_missed = torch.empty(0, dtype=torch.bool)
    if target is not None:
        annotated = {key: target[key].as_subclass(Tensor).cpu() for key in ("boxes", "labels")}
        is_missed = torch.ones(len(annotated["labels"]), dtype=torch.bool)
        is_crowd = target.get("crowd", ~is_missed).cpu()
    if predicted is not None:
        order = predicted["scores"].argsort(descending=True, stable=True)
        order = order[predicted["scores"][order] >= min_score]
        detected = {key: predicted[key][order] for key in ("boxes", "scores", "labels")}
        lines = [Line(drawing.class_colour(label - 1)) for label in detected["labels"].tolist()]
        if target is not None:
            matches = match_boxes([detected], [{**annotated, "iscrowd": is_crowd.long()}]).boxes
            is_missed[matches[matches >= 0]] = False
            lines = [{UNMATCHED: FALSE, IN_CROWD: IGNORED}.get(match, RIGHT) for match in matches.tolist()]
        rows = zip(*(value.tolist() for value in detected.values()), lines, strict=True)
        objects = [Object(box, f"{class_names[k - 1]} {_short(score)}", line) for box, score, k, line in rows]
    missed = (part[is_missed].tolist() for part in (*annotated.values(), is_crowd)) if annotated else ((), (), ())
    for box, label, crowd in zip(*missed, strict=True):
        line = Line(drawing.class_colour(label - 1)) if predicted is None else MISSED
        objects.append(Object(box, class_names[label - 1], IGNORED if crowd else line))
    return objects


def _short(score: float) -> str:
    return f"{score:.2f}".removeprefix("0")


def _draw_outline(pen: ImageDraw.ImageDraw, item: Object, unit: int) -> None:
    """Draw an outline. Unless it is thin, it has a black border, to be visible on any colour.

    Args:
        unit: the width of the thinnest line, in pixels.
    """
    left, top, right, bottom = map(round, item.box)
    width, dash = item.line.width * unit, 5 * unit
    layers = [(item.line.colour, 0)]  # colour, and how far it extends beyond the line on both sides
    if item.line.width > 1:
        layers.insert(0, (BLACK, (unit + 1) // 2))
    for colour, border in layers:
        before, after = width // 2 + border, (width - 1) // 2 + border  # pixels on both sides of the box's edge
        for x, y, across, down in (
            (left, top, right - left, 0),
            (left, bottom, right - left, 0),
            (left, top, 0, bottom - top),
            (right, top, 0, bottom - top),
        ):
            length = across + down
            step = dash if item.line.is_dashed else max(1, length)
            for start in range(0, max(1, length), 2 * step):
                end = min(start + step, length)
                x0, x1 = (x + start, x + end) if across else (x, x)
                y0, y1 = (y + start, y + end) if down else (y, y)
                pen.rectangle((x0 - before, y0 - before, x1 + after, y1 + after), fill=colour)


def _draw_labels(pen: ImageDraw.ImageDraw, size: tuple[int, int], objects: Sequence[Object], text_size: int) -> None:
    """Draw one label for the objects at each place. Put it where it covers the least of objects and other labels.

    Args:
        size: the width and height of the picture.
        text_size: the height of the text, in pixels.
    """
    boxes = np.array([item.box for item in objects], np.float32).reshape(-1, 4)
    labels = np.empty((0, 4), np.float32)
    if is_crowded := len(objects) > MAX_LABELS:
        errors = [item for item in objects if item.line not in (RIGHT, IGNORED)]
        objects = sorted(errors, key=lambda item: item.line != MISSED)
    font, padding = drawing.font(text_size), text_size // 5
    height = text_size + 2 * padding
    labelled = torch.tensor([item.box for item in objects]).view(-1, 4)
    is_close, is_free = box_iou(labelled, labelled).numpy() >= MIN_IOU, np.ones(len(objects), bool)
    for i in range(len(objects)):
        if len(labels) == MAX_LABELS:
            break
        if not is_free[i]:
            continue
        group = [i, *(i + 1 + np.flatnonzero((is_free & is_close[i])[i + 1 :]))]  # the objects at one place
        is_free[group] = False
        lines = {objects[j].line for j in group}
        missed_first = sorted(group, key=lambda j: objects[j].line != MISSED)
        parts = [(drawing.drawable(objects[j].text), objects[j].line.colour) for j in missed_first[:MAX_NAMES]]
        if len(group) > MAX_NAMES:
            parts.append((f"+{len(group) - MAX_NAMES}", GREY))
        widths = [round(font.getlength(text)) + 2 * padding for text, _ in parts]
        corners = _label_places(objects[i].box, sum(widths), height, size)
        if is_crowded:
            corners = corners[_covered(corners, labels) == 0]
        if not len(corners):
            continue
        covered = _covered(corners, boxes) + 10 * _covered(corners, labels)
        best = int(covered.argmin())
        if covered[best] > 0 and lines <= {RIGHT, IGNORED}:
            continue
        labels = np.concatenate([labels, corners[best : best + 1]])
        x, y = map(round, corners[best, :2].tolist())
        for (text, colour), width in zip(parts, widths, strict=True):
            pen.rectangle((x, y, x + width - 1, y + height - 1), fill=colour, outline=BLACK)
            pen.text((x + padding, y + height / 2), text, fill=drawing.text_colour(colour), font=font, anchor="lm")
            x += width


def _label_places(box: Sequence[float], width: int, height: int, size: tuple[int, int]) -> np.ndarray:
    """Return possible boxes of a label, Float[P 4] XYXY: eight around a box, and one in its top left corner."""
    left, top, right, bottom = box
    columns, rows = (left, right - width), (top - height, bottom + 1)
    corners = [(x, y) for y in rows for x in columns]
    corners += [(x, y) for x in (right + 1, left - width) for y in (top, bottom - height)]
    limits = np.maximum((size[0] - width, size[1] - height), 0)
    places = np.maximum(np.minimum(np.round([*corners, (left, top)]), limits), 0)
    return np.concatenate([places, places + np.array([width, height])], 1).astype(np.float32)


def _covered(labels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return for each label the sum of the shares of the boxes that it covers, Float[P]."""
    corners, ends = np.maximum(labels[:, None, :2], boxes[:, :2]), np.minimum(labels[:, None, 2:], boxes[:, 2:])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1).clip(1)
    return ((ends - corners).clip(0).prod(2) / areas).sum(1)


def _legend(entries: Sequence[tuple[Line, str]], width: int, text_size: int, unit: int) -> Tensor:
    """Draw lines with their meanings, uint8 [3 h width].

    The text is smaller if there is too little room. Below `MIN_TEXT` of its size, there are two rows.
    """
    rows = [entries]
    factor = width / _row_width(entries, text_size)
    if factor < MIN_TEXT:
        rows = [entries[:2], entries[2:]]
        factor = width / max(_row_width(row, text_size) for row in rows)
    text_size = max(1, int(text_size * min(1, factor)))
    sample, gap = SAMPLE * text_size, GAP * text_size
    canvas = Pillow.new("RGB", (width, 2 * text_size * len(rows)), drawing.BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    for i, row in enumerate(rows):
        x, y = gap, (2 * i + 1) * text_size
        for line, text in row:
            if line.width:
                _draw_outline(pen, Object([x, y, x + sample, y], "", line), unit)
                x += sample + gap
            pen.text((x, y), text, fill=line.colour, font=drawing.font(text_size), anchor="lm")
            x += drawing.font(text_size).getlength(text) + gap
    return pil_to_tensor(canvas)


def _row_width(entries: Sequence[tuple[Line, str]], text_size: int) -> float:
    """Return the width of a row of the legend, in pixels."""
    texts = sum(drawing.font(text_size).getlength(text) for _, text in entries)
    lines = sum(line.width > 0 for line, _ in entries)
    return texts + (lines * (SAMPLE + GAP) + (len(entries) + 1) * GAP) * text_size
