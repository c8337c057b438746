"""Predict large images in windows, and write, draw and export predictions: masks of the original images."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from kit.data.decode import decode
from kit.formats.masks.data_sets import BACKGROUND
from kit.formats.masks.masks import IGNORED
from kit.ground import drawing
from kit.ground.drawing import BLACK
from kit.ground.errors import UserError
from kit.ground.files import replacing, write_text
from kit.task import ExportedModule

ALPHA = 0.6  # the opacity of the colours over the image
WRONG = (255, 0, 0)  # the colour of wrong pixels
STRIP = 256  # the number of rows that are drawn at a time, to save memory


def upsample(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize maps, Float[B C h w], bilinearly to a height and width."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)


def predict_in_windows(net: Callable[[Tensor], Tensor], images: Tensor, window: tuple[int, int]) -> Tensor:
    """Compute the logits of images that are larger than the training images, window by window.

    Windows overlap by half, and the last window ends at the border. Where windows overlap, the logits are averaged.

    Args:
        net: maps Float[B C h w] to logits Float[B K h w].
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
            region = (..., slice(top, top + window[0]), slice(left, left + window[1]))
            logits = net(images[region])
            if not total.ndim:
                total = logits.new_zeros(*logits.shape[:2], height, width)
            total[region] += logits
            counts[region] += 1
    return total / counts


def _window_starts(length: int, window: int) -> list[int]:
    """Return the position of each window's first pixel along a side of an image."""
    if length <= window:
        return [0]
    return [*range(0, length - window, max(1, window // 2)), length - window]


class MaskPredictions:
    """Write `masks/NAME.png` and `pictures/NAME.jpg` for each image, and `masks/classes.txt`.

    A mask has the size of the image. Its values are class numbers, and a palette gives each class the colour that it
    has in pictures. `classes.txt` lists the names of the classes and their colours.

    Args:
        folder: the folder of the results.
        class_names: the names of the model's classes.
        pictures: whether to write pictures, which show the masks over the images.

    Raises:
        UserError: `masks` has masks or classes of another origin, such as annotations.
    """

    FOLDERS = ("masks", "pictures")

    def __init__(self, folder: Path, class_names: Sequence[str], pictures: bool = True) -> None:
        self.class_names, self.masks = class_names, folder / "masks"
        self.pictures = folder / "pictures" if pictures else None
        colours = mask_colours(class_names)
        self.palette = [value for colour in colours for value in colour]
        lines = [f"{name} {r} {g} {b}\n" for name, (r, g, b) in zip(class_names, colours, strict=True)]
        file, text = self.masks / "classes.txt", "".join(lines)
        old_text = file.read_text("utf-8", "replace") if file.is_file() else ""
        if old_text != text and (old_text or any(self.masks.rglob("*.png"))):
            why = "has masks or classes that `predict` has not written for this model"
            raise UserError(f"{self.masks} {why}; choose another folder with --out")
        write_text(file, text)

    def write_files(self, file: Path, name: str, prediction: Tensor) -> None:
        mask = Image.fromarray(prediction.numpy(), "P")
        mask.putpalette(self.palette)
        with replacing(self.masks / f"{name}.png") as temporary:
            mask.save(temporary, "PNG")
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

    def forward(self, images: Tensor, size: tuple[Any, Any], unpadded_size: tuple[Any, Any]) -> tuple[Tensor]:
        logits = self.net(images)[:, :, : unpadded_size[0], : unpadded_size[1]].float()
        # Resize even if the sizes are equal: the recorded graph must also fit images with other sizes.
        return (F.interpolate(logits, size, mode="bilinear", align_corners=False).argmax(1).to(torch.uint8),)

    def difference(self, outputs: Mapping[str, Tensor], predicted: Tensor) -> float:
        if outputs["masks"].shape != predicted.shape:
            return float("inf")
        return float((outputs["masks"] != predicted).float().mean())


def background_class(class_names: Sequence[str]) -> int | None:
    """Return the number of the class that pictures leave untinted, or None.

    It is the class named `background`. If classes are named after their numbers, it is class 0, which is named `0`.
    """
    names = [name.strip(" _").lower() for name in class_names]
    if BACKGROUND in names:
        return names.index(BACKGROUND)
    return 0 if names[:1] == ["0"] else None


def mask_colours(class_names: Sequence[str]) -> list[drawing.Colour]:
    """Return the colour of each class. The background is black."""
    background = background_class(class_names)
    return [BLACK if k == background else drawing.class_colour(k) for k in range(len(class_names))]


def draw_masks(
    image: Tensor, class_names: Sequence[str], predicted: Tensor | None = None, target: Tensor | None = None
) -> Tensor:
    """Draw masks over an image in the colours of their classes, with the names of the classes below.

    The background is untinted. If both masks are given, four panels are drawn: the image, the annotated mask, the
    predicted mask, and the wrong pixels in red over the image in grey.

    Args:
        image: uint8 [C H W].
        class_names: the names of the model's classes.
        predicted: class numbers [H W], or None.
        target: class numbers [H W], or None. Ignored pixels (255) are dark.

    Returns:
        uint8 [3 H' W'].
    """
    factor = drawing.zoom_factor(image)
    rgb = drawing.zoomed(drawing.to_rgb(image), factor)
    masks = {"annotated": target, "predicted": predicted}
    masks = {title: mask.as_subclass(Tensor).cpu() for title, mask in masks.items() if mask is not None}
    if not masks:
        return rgb
    colours = dict(enumerate(mask_colours(class_names)))
    colours.pop(background_class(class_names), None)
    panels = {title: _overlay(rgb, drawing.zoomed(mask, factor), colours) for title, mask in masks.items()}
    drawn = next(iter(panels.values()))
    if len(masks) == 2:
        is_counted, is_wrong = masks["annotated"] != IGNORED, masks["annotated"] != masks["predicted"]
        share = float((is_wrong & is_counted).sum() / is_counted.sum().clamp(min=1))
        grey = rgb.float().mean(0, keepdim=True).byte().expand_as(rgb)
        wrong = _overlay(grey, drawing.zoomed(is_wrong.byte().where(is_counted, IGNORED), factor), {1: WRONG})
        panels = {"image": rgb, **panels, f"wrong: {share:.1%}": wrong}
        parts = [drawing.add_caption(panel, [(title, drawing.WHITE)]) for title, panel in panels.items()]
        drawn = drawing.in_columns(parts, 2, gap=4)
    counts = sum(mask.flatten().bincount(minlength=IGNORED + 1) for mask in masks.values())
    names = [(class_names[k], colours[k]) for k in counts[:IGNORED].nonzero().flatten().tolist() if k in colours]
    names += [("ignored", BLACK)] * bool(counts[IGNORED])
    return drawing.stacked([drawn, drawing.legend(names, drawn.shape[2])], gap=2)


def _overlay(image: Tensor, mask: Tensor, colours: Mapping[int, drawing.Colour]) -> Tensor:
    """Return an image, uint8 [3 H W], with the pixels of each class tinted in its colour, and ignored pixels darkened.

    Args:
        mask: class numbers [H W].
        colours: the colour of a class by its number. Classes without a colour are not tinted.
    """
    tints, weights = torch.zeros(IGNORED + 1, 3), torch.ones(IGNORED + 1, 1)  # weights: how much of the image remains
    for k, colour in (*colours.items(), (IGNORED, BLACK)):
        tints[k], weights[k] = torch.tensor(colour) * ALPHA, 1 - ALPHA
    drawn = torch.empty_like(image)
    for rows, pixels, classes in zip(*(part.split(STRIP, -2) for part in (drawn, image, mask)), strict=True):
        tint, weight = (table[classes.long()].permute(2, 0, 1) for table in (tints, weights))
        rows.copy_(pixels * weight + tint)
    return drawn
