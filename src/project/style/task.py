"""Training a net to paint images in the style of one image."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from kit.data import Batch
from kit.data.decode import decode, resize
from kit.ground.errors import BrokenFiles, UserError
from kit.samples import pictures
from kit.samples.evaluation import StyleEvaluation
from kit.samples.exported import ExportedStylizer
from kit.samples.features import Features, Trained
from kit.samples.paintings import Paintings
from kit.task import Task
from kit.training.schedule import Interval, Schedule, WarmupCosine, optimizer_and_schedule
from project.style.losses import Statistics, content, relative, statistics, with_colours

PARTS = ("content", "style", "total_variation")


class Stylizer(Task):
    """Perceptual losses (Johnson et al. 2016): what is to be seen as in the image, how it is painted as in the style's.

    In the features' maps the *content* of an image is the deepest map but one, and the *style* of an image what its
    channels have in common at all places (`project.style.losses`). Each loss is relative to the square of
    what it is compared with, so that weights mean the same for any features. *Total variation* is the mean square
    between neighbouring pixels.

    Args:
        net: called with `in_channels`; maps Float[B C H W] from -1 to 1 to the same.
        style: the image file whose style it is.
        features: where images are compared; see `kit.samples.features`.
        in_channels, num_classes, class_names, class_counts: set by the data; the command line does not take them.
        optimizer: gets two parameter groups, the second (norms and biases) without weight decay.
        schedule: called with the optimizer; for its length and when it steps see `kit.training.schedule`.
        schedule_interval: step the schedule after each optimizer `step` or each `epoch`; by default, as suits it.
        style_size: the shorter side that the style's image is resized to, in pixels: smaller makes finer strokes.
        style_weight, variation_weight: of the style's loss and of total variation, beside the content's.
    """

    monitor, mode = "val/loss", "min"
    Predictions = Paintings

    def __init__(
        self,
        net: Callable[..., nn.Module],
        style: str,
        features: Features,
        in_channels: int,
        num_classes: int = 1,
        class_names: list[str] | None = None,
        class_counts: list[int] | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: Schedule | None = WarmupCosine,
        schedule_interval: Interval | None = None,
        style_size: int = 256,
        style_weight: float = 4.0,
        variation_weight: float = 1.0,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("style_size", style_size, 1),
            ("style_weight", style_weight, 0),
            ("variation_weight", variation_weight, 0),
        ):
            if value < least:
                raise UserError(f"model.{name} is {value}, but must be at least {least}")
        self.save_hyperparameters(logger=False)
        self.net = net(in_channels=in_channels).to(memory_format=torch.channels_last)
        self.class_names = class_names or [str(k) for k in range(num_classes)]
        self.in_channels = in_channels
        self.optimizer, self.schedule, self.schedule_interval = optimizer, schedule, schedule_interval
        self.style, self.style_size, self.features = style, style_size, features
        self.weights = (1.0, style_weight, variation_weight)
        self._trained: list[Trained] = []  # in a list, since it is no part of the model
        self._wanted: list[Statistics] = []

    def setup(self, stage: str) -> None:
        self._features_on(self.device)  # what is wrong with them is said at once

    def _features_on(self, device: torch.device) -> Trained:
        """The features, and in `_wanted` what they say of the style; loaded once."""
        if not self._trained:
            try:
                style = _shrunk(decode(Path(self.style), self.in_channels, None), self.style_size)
            except BrokenFiles as error:
                raise UserError(f"model.style: {error}") from None
            if torch.equal(style.amax((1, 2)), style.amin((1, 2))):
                raise UserError(f"{self.style}: one colour, and no stroke to be seen; give another --model.style")
            loaded = self.features.load(self.in_channels)
            with torch.no_grad():
                image = pictures.floats(style)[None]
                self._wanted = [statistics(maps) for maps in with_colours(image, loaded(image))]
            self._trained = [loaded]
        return self._trained[0].to(device)

    def forward(self, images: Tensor) -> Tensor:
        """Float[B C H W] from -1 to 1 to the same."""
        return self.net(images)

    def loss_terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The summed losses, weighted, and what they are divided by, Float[3] both; parts of a batch add up."""
        losses = self._losses(batch.images)  # [3 B]
        return losses.sum(1) * losses.new_tensor(self.weights), losses.new_full((3,), losses.shape[1])

    def _losses(self, images: Tensor) -> Tensor:
        """Of each image the content's, the style's and total variation: Float[3 B]."""
        painted, trained = self(images), self._features_on(images.device).to(images.dtype)
        found = trained(painted)
        with torch.no_grad():
            shown = content(trained(images))
        style = [
            relative(own, there.to(own))
            for maps, level in zip(with_colours(painted, found), self._wanted, strict=True)
            for own, there in zip(statistics(maps), level, strict=True)
        ]
        down, right = painted.diff(dim=2), painted.diff(dim=3)
        variation = down.square().flatten(1).mean(1) + right.square().flatten(1).mean(1)
        return torch.stack([relative(content(found), shown), torch.stack(style).mean(0), variation])

    def evaluate(self, batch: Batch) -> Tensor:
        """Return the parts of each image's loss, not weighted: Float[B 3]."""
        return self._losses(batch.images).T

    def evaluation(self, split: str) -> StyleEvaluation:
        return StyleEvaluation(dict(zip(PARTS, self.weights, strict=True)))

    def predict(
        self, images: Tensor, sizes: Sequence[tuple[int, int]], areas: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """Each of Float[B C H W] painted: uint8 [C H W], on the CPU; for `sizes` and `areas` see the other tasks."""
        return list(pictures.pixels(self(images).float()).cpu())

    def exported(self) -> ExportedStylizer:
        """What a file of `project.export` answers."""
        return ExportedStylizer(self.net)

    def draw(self, image: Tensor, predicted: Tensor | None = None, target: Any = None) -> Tensor:
        """See `kit.samples.pictures`; the target says nothing."""
        return pictures.draw(image, self.class_names, predicted)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return optimizer_and_schedule(self, self.optimizer, self.schedule, self.schedule_interval)


def _shrunk(image: Tensor, shorter: int) -> Tensor:
    """uint8 [C H W], its shorter side of so many pixels, if it is longer."""
    scale = shorter / min(image.shape[1:])
    height, width = (max(1, round(side * scale)) for side in image.shape[1:])
    return image if scale >= 1 else resize(image, (height, width))
