"""Images with boxes around their objects."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

from kit.ground.drawing import (
    GREY,
    WHITE,
    add_caption,
    class_colour,
    draw_labels,
    label_size,
    side_by_side,
    to_rgb,
    zoom_factor,
    zoomed,
)

LEAST_SCORE = 0.3  # of a detection that is drawn
LEAST_SIDE = 240  # of a picture: boxes need room for their names


def draw(
    image: Tensor,
    class_names: Sequence[str],
    predicted: dict[str, Tensor] | None = None,
    target: dict[str, Tensor] | None = None,
    least_score: float = LEAST_SCORE,
) -> Tensor:
    """Boxes in the colours of their classes; if both are given, annotated ones at the left, detected ones at the right.

    Args:
        image: uint8 [C H W].
        predicted: `boxes` Float[N 4] XYXY in pixels of the image, `scores` Float[N], `labels` Long[N] from 1 to K.
        target: `boxes`, `labels`, and if there is one `crowd`, Bool[N], whose boxes are grey.
        least_score: of a detection that is drawn.
    """
    factor = zoom_factor(image, LEAST_SIDE)
    ground, panels = zoomed(to_rgb(image), factor), []
    if target is not None:
        crowd = target.get("crowd", torch.zeros(len(target["labels"]), dtype=torch.bool))
        names = [class_names[label - 1] for label in target["labels"].tolist()]
        panels.append((_boxed(ground, target["boxes"] * factor, target["labels"], names, crowd), "annotated"))
    if predicted is not None:
        # The surest last, on top of the others.
        order = [i for i in predicted["scores"].argsort().tolist() if predicted["scores"][i] >= least_score]
        boxes, scores, labels = (predicted[key][order] for key in ("boxes", "scores", "labels"))
        names = [f"{class_names[k - 1]} {s:.2f}" for k, s in zip(labels.tolist(), scores.tolist(), strict=True)]
        panels.append((_boxed(ground, boxes * factor, labels, names), f"detected, score from {least_score}"))
    if len(panels) < 2:
        return panels[0][0] if panels else ground
    return side_by_side([add_caption(panel, [(title, WHITE)]) for panel, title in panels])


def _boxed(image: Tensor, boxes: Tensor, labels: Tensor, names: list[str], crowd: Tensor | None = None) -> Tensor:
    if not len(boxes):
        return image
    boxes = boxes.as_subclass(Tensor).float().cpu()
    colours = [class_colour(label - 1) for label in labels.tolist()]
    if crowd is not None:
        colours = [GREY if grey else own for own, grey in zip(colours, crowd.tolist(), strict=True)]
    image = draw_bounding_boxes(image, boxes, colors=colours, width=2)
    height = label_size("")[1]
    places = [(left, top - height) for left, top, _, _ in boxes.tolist()]
    return draw_labels(image, list(zip(places, names, colours, strict=True)))
