"""Images with their classes below them."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from kit.ground.drawing import GREEN, GREY, RED, WHITE, add_caption, to_rgb, zoom_factor, zoomed


def draw(image: Tensor, class_names: Sequence[str], predicted: Any = None, target: Any = None) -> Tensor:
    """An image and what it is; below that what it was taken for, green if it is so and red if not.

    Args:
        image: uint8 [C H W].
        predicted: has a `label` (a class's name) and a `probability`.
        target: a class number, or Float[K], the shares of a mixed image.
    """
    lines = []
    name = None if target is None else _named(target, class_names)
    if name is not None:
        lines.append((name, WHITE))
    if predicted is not None:
        ink = GREY if name is None else GREEN if predicted.label == name else RED
        lines.append((f"{predicted.label} {predicted.probability:.2f}", ink))
    return add_caption(zoomed(to_rgb(image), zoom_factor(image)), lines)


def _named(target: Any, class_names: Sequence[str]) -> str:
    if not isinstance(target, Tensor) or not target.ndim:
        return class_names[int(target)]
    shares, classes = target.float().sort(descending=True)
    parts = zip(shares.tolist(), classes.tolist(), strict=True)
    return " + ".join(f"{class_names[k]} {share:.2f}" for share, k in parts if share >= 0.005)
