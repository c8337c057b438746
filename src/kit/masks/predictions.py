"""Predict large images in windows, and write, draw and export predictions: masks of the original images."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from kit.data.decode import decode
from kit.formats.masks.masks import IGNORED
from kit.ground import drawing
from kit.ground.files import replacing, write_text
from kit.task import ExportedModule

ALPHA = 0.6  # the opacity of the colours over the image
BLACK = (0, 0, 0)
STRIP = 256  # the number of rows that are drawn at a time, since a large image may fill the memory


def upsample(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize maps, Float[B C h w], bilinearly to a height and width."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)


def predict_in_windows(net: Callable[[Tensor], Tensor], images: Tensor, window: tuple[int, int]) -> Tensor:
    """Return the logits of images that are larger than the training images, and compute them window by window.

    Windows overlap by half, and the last window ends at the border. Where windows overlap, the logits are averaged.

    Args:
        net: Float[B C h w] to logits Float[B K h w].
        images: Float[B C H W].
        window: the height and width of a window, in pixels.

    Returns:
        Float[B K H W].
    """
    height, width = images.shape[-2:]
    tops, lefts = (_window_starts(*pair) for pair in zip((height, width), window, strict=True))
    total, counts = images.new_zeros(()), images.new_zeros(height, width)
    for top in tops:
        for left in lefts:
            pixels = (..., slice(top, top + window[0]), slice(left, left + window[1]))
            logits = net(images[pixels])
            if not total.ndim:
                total = logits.new_zeros(*logits.shape[:2], height, width)
            total[pixels] += logits
            counts[pixels] += 1
    return total / counts


def _window_starts(length: int, window: int) -> list[int]:
    """Return the position of each window's first pixel along a side of an image."""
    if length <= window:
        return [0]
    return [*range(0, length - window, max(1, window // 2)), length - window]


class MaskPredictions:
    """Write `masks/NAME.png` and `pictures/NAME.jpg` for each image, and `masks/classes.txt`.

    A mask has the size of the image. Its values are class numbers, and a palette gives each class a colour.
    `classes.txt` lists the names of the classes and their colours.

    Args:
        folder: the folder of the results.
        class_names: the names of the model's classes.
        pictures: whether to write pictures, which show the masks over the images.
    """

    FOLDERS = ("masks", "pictures")

    def __init__(self, folder: Path, class_names: Sequence[str], pictures: bool = True) -> None:
        self.class_names, self.masks = class_names, folder / "masks"
        self.pictures = folder / "pictures" if pictures else None
        colours = [drawing.class_colour(k) for k in range(len(class_names))]
        self.palette = [value for colour in colours for value in colour]
        lines = [f"{name} {r} {g} {b}\n" for name, (r, g, b) in zip(class_names, colours, strict=True)]
        write_text(self.masks / "classes.txt", "".join(lines))

    def write_files(self, file: Path, name: str, prediction: Tensor) -> None:
        mask = Image.fromarray(prediction.numpy(), "P")
        mask.putpalette(self.palette)
        with replacing(self.masks / f"{name}.png") as part:
            mask.save(part, "PNG")
        if self.pictures is not None:
            drawn = draw_masks(decode(file, 3, None), self.class_names, prediction)
            drawing.save_picture(drawn, self.pictures / f"{name}.jpg")

    def add(self, file: Path, name: str, prediction: Tensor) -> None:
        """Do nothing, since each image has files of its own."""

    def finish(self) -> list[Path]:
        return [self.masks, *([self.pictures] if self.pictures else [])]


class ExportedSegmenter(ExportedModule):
    """Convert images to `masks`, the class of each pixel of the original images, uint8 [B H W].

    In each image, at most one pixel in a thousand may differ between an exported file and PyTorch.
    """

    task = "segmentation"
    outputs: ClassVar = {"masks": {0: "batch", 1: "height", 2: "width"}}
    difference_name = "largest share of an image's pixels whose class differs"
    tolerance = 0.001

    def forward(self, images: Tensor, size: tuple[Any, Any], content_size: tuple[Any, Any]) -> tuple[Tensor]:
        logits = self.net(images)[:, :, : content_size[0], : content_size[1]].float()
        # Resize even if the sizes are equal: the recorded graph must also fit images with other sizes.
        return (F.interpolate(logits, size, mode="bilinear", align_corners=False).argmax(1).to(torch.uint8),)

    def difference(self, outputs: Mapping[str, Tensor], predicted: Tensor) -> float:
        if outputs["masks"].shape != predicted.shape:
            return float("inf")
        return float((outputs["masks"] != predicted).float().mean())


def draw_masks(
    image: Tensor, class_names: Sequence[str], predicted: Tensor | None = None, target: Tensor | None = None
) -> Tensor:
    """Draw masks over an image in the colours of their classes, with the names of the classes below.

    If both masks are given, the image, the annotated mask and the predicted mask are drawn side by side.

    Args:
        image: uint8 [C H W].
        class_names: the names of the model's classes.
        predicted: class numbers [H W], or None.
        target: class numbers [H W], or None. Ignored pixels (255) are black.

    Returns:
        uint8 [3 H' W'].
    """
    factor = drawing.zoom_factor(image)
    background = drawing.zoomed(drawing.to_rgb(image), factor)
    masks = {"annotated": target, "predicted": predicted}
    masks = {title: mask.as_subclass(Tensor).cpu() for title, mask in masks.items() if mask is not None}
    if not masks:
        return background
    panels = {title: _overlay(background, drawing.zoomed(mask, factor)) for title, mask in masks.items()}
    parts = list(panels.values())
    if len(parts) == 2:
        panels = {"image": background, **panels}
        parts = [drawing.add_caption(panel, [(title, drawing.WHITE)]) for title, panel in panels.items()]
    drawn = drawing.side_by_side(parts)
    counts = sum(mask.flatten().bincount(minlength=IGNORED + 1) for mask in masks.values())
    names = [(class_names[k], drawing.class_colour(k)) for k in counts[:IGNORED].nonzero().flatten().tolist()]
    return drawing.stacked([drawn, drawing.legend(names, drawn.shape[2])], gap=2)


def _overlay(image: Tensor, mask: Tensor) -> Tensor:
    colours = torch.tensor([*map(drawing.class_colour, range(IGNORED)), BLACK], dtype=torch.uint8)
    drawn = torch.empty_like(image)
    for rows, pixels, classes in zip(*(part.split(STRIP, -2) for part in (drawn, image, mask)), strict=True):
        rows.copy_(pixels * (1 - ALPHA) + colours[classes.long()].permute(2, 0, 1) * ALPHA)
    return drawn
