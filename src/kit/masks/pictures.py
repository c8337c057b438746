"""Images with the classes of their pixels laid over them."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.utils import draw_segmentation_masks

from kit.formats.masks.masks import IGNORED
from kit.ground.drawing import (
    WHITE,
    add_caption,
    class_colour,
    legend,
    side_by_side,
    stacked,
    to_rgb,
    zoom_factor,
    zoomed,
)

ALPHA = 0.6  # of the colours over the image
BLACK = (0, 0, 0)


def draw(
    image: Tensor, class_names: Sequence[str], predicted: Tensor | None = None, target: Tensor | None = None
) -> Tensor:
    """Classes in their colours, named below; if both are given, the image, its mask and the predicted one side by side.

    Args:
        image: uint8 [C H W].
        predicted: class numbers [H W].
        target: class numbers [H W]; 255, which counts nowhere, is black.
    """
    factor = zoom_factor(image)
    ground, panels = zoomed(to_rgb(image), factor), []
    for mask, title in ((target, "annotated"), (predicted, "predicted")):
        if mask is not None:
            panels.append((_overlaid(ground, zoomed(mask.as_subclass(Tensor).cpu(), factor)), title))
    if not panels:
        return ground
    seen = torch.cat([mask.flatten() for mask in (target, predicted) if mask is not None]).unique().tolist()
    names = legend([(class_names[k], class_colour(k)) for k in seen if k != IGNORED], panels[0][0].shape[2])
    if len(panels) == 1:
        return stacked([panels[0][0], names], gap=2)
    panels.insert(0, (ground, "image"))
    shown = side_by_side([add_caption(panel, [(title, WHITE)]) for panel, title in panels])
    names = legend([(class_names[k], class_colour(k)) for k in seen if k != IGNORED], shown.shape[2])
    return stacked([shown, names], gap=2)


def _overlaid(image: Tensor, mask: Tensor) -> Tensor:
    classes = mask.unique().tolist()
    masks = torch.stack([mask == k for k in classes])
    colours = [BLACK if k == IGNORED else class_colour(k) for k in classes]
    return draw_segmentation_masks(image, masks, alpha=ALPHA, colors=colours)
