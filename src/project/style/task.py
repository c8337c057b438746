"""Train a net to paint photographs in the style of one image."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from kit.data import Batch
from kit.data.decode import decode, resize
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.ranges import NonNegativeFloat, PositiveInt
from kit.samples.evaluation import StyleEvaluation
from kit.samples.features import FeatureExtractor, Features
from kit.samples.images import draw_sample, from_uint8, to_uint8
from kit.samples.predictions import ExportedStylizer, PaintingFiles
from kit.task import Sizes, Task
from kit.training.schedule import Interval, Schedule, WarmupCosine, optimizer_and_schedule
from project.style.losses import Statistics, add_colours, content_map, relative_distance, statistics

LOSSES = ("content", "style", "total_variation")


class Stylizer(Task):
    """Minimise perceptual losses (Johnson et al. 2016). The metrics are the mean losses (`kit.samples.evaluation`).

    The *content* loss compares a deep feature map of the painted image and the same map of the photograph. The *style*
    loss compares the means and covariances of all feature maps of the painted image and of the style image: see
    `project.style.losses`. Both losses are divided by the squared norm of their target, so the default loss weights
    suit any feature net. *Total variation* is the sum of the mean squared differences of vertical and of horizontal
    neighbours.

    Args:
        net: called with `in_channels`; returns a module that maps images, Float[B C H W] in [-1, 1], to images
            of the same shape and range.
        style: the file of the style image.
        features: loads the net whose feature maps are compared, see `kit.samples.features`.
        in_channels, num_classes, class_names: set by the data module, not on the command line.
        optimizer: called with the parameter groups. Norms and biases have no weight decay.
        schedule: called with the optimizer, see `kit.training.schedule`; None keeps the learning rate constant.
        schedule_interval: advance the schedule after each `step` or `epoch`; the default depends on the schedule.
        style_size: if the shorter side of the style image has more than this number of pixels, the image is shrunk
            until it has this number. A lower value gives finer strokes.
        style_weight, variation_weight: the weights of these losses. The content loss has the weight 1.
    """

    monitor, mode = "val/loss", "min"
    Predictions = PaintingFiles

    def __init__(
        self,
        net: Callable[..., nn.Module],
        style: str,
        features: Features,
        in_channels: int,
        num_classes: int = 1,
        class_names: list[str] | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: Schedule | None = WarmupCosine,
        schedule_interval: Interval | None = None,
        style_size: PositiveInt = 256,
        style_weight: NonNegativeFloat = 4.0,
        variation_weight: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.net = net(in_channels=in_channels).to(memory_format=torch.channels_last)
        self.class_names = class_names or [str(k) for k in range(num_classes)]
        self.in_channels = in_channels
        self.optimizer, self.schedule, self.schedule_interval = optimizer, schedule, schedule_interval
        self.style, self.style_size, self.features = style, style_size, features
        self.weights = (1.0, style_weight, variation_weight)
        self._extractors: list[FeatureExtractor] = []  # a list hides it from `parameters()` and checkpoints
        self._style_statistics: list[Statistics] = []

    def setup(self, stage: str) -> None:
        self._extractor(self.device)  # load it here, so that errors are raised before training

    def _extractor(self, device: torch.device) -> FeatureExtractor:
        """Return the feature extractor. The first call loads it and computes the statistics of the style image."""
        if not self._extractors:
            try:
                style = _shrink(decode(Path(self.style), self.in_channels, None), self.style_size)
            except BrokenFiles as error:
                raise UserError(f"model.style: {error}") from None
            if torch.equal(style.amax((1, 2)), style.amin((1, 2))):
                raise UserError(f"{self.style} has one colour, and so no style; give another --model.style")
            extractor = self.features.load(self.in_channels)
            with torch.no_grad():
                image = from_uint8(style)[None]
                self._style_statistics = [statistics(maps) for maps in add_colours(image, extractor(image))]
            self._extractors = [extractor]
        return self._extractors[0].to(device)

    def forward(self, images: Tensor) -> Tensor:
        """Paint Float[B C H W] in [-1, 1]."""
        return self.net(images)

    def loss_terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the weighted summed losses and their divisors, Float[3] each."""
        losses = self._losses(batch.images)
        return losses.sum(1) * losses.new_tensor(self.weights), losses.new_full((3,), losses.shape[1])

    def _losses(self, images: Tensor) -> Tensor:
        """Return the content loss, the style loss and the total variation of each image, Float[3 B]."""
        painted, extractor = self(images), self._extractor(images.device).to(images.dtype)
        painted_maps = extractor(painted)
        with torch.no_grad():
            target_content = content_map(extractor(images))
        style_losses = [
            relative_distance(value, target.to(value))
            for maps, targets in zip(add_colours(painted, painted_maps), self._style_statistics, strict=True)
            for value, target in zip(statistics(maps), targets, strict=True)
        ]
        vertical, horizontal = painted.diff(dim=2), painted.diff(dim=3)
        variation = vertical.square().flatten(1).mean(1) + horizontal.square().flatten(1).mean(1)
        content_loss = relative_distance(content_map(painted_maps), target_content)
        return torch.stack([content_loss, torch.stack(style_losses).mean(0), variation])

    def evaluate(self, batch: Batch) -> Tensor:
        """Return the unweighted losses of each image, Float[B 3]."""
        return self._losses(batch.images).T

    def evaluation(self, split: str) -> StyleEvaluation:
        return StyleEvaluation(dict(zip(LOSSES, self.weights, strict=True)))

    def predict(self, images: Tensor, sizes: Sizes, unpadded_sizes: Sizes) -> list[Tensor]:
        """Paint images, Float[B C H W], as uint8 [C H W] each, on the CPU. The sizes are not used."""
        return list(to_uint8(self(images).float()).cpu())

    def exported(self) -> ExportedStylizer:
        """Return the module that `project.export` writes to a file."""
        return ExportedStylizer(self.net)

    def draw(self, image: Tensor, predicted: Tensor | None = None, target: Any = None) -> Tensor:
        return draw_sample(image, self.class_names, predicted)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return optimizer_and_schedule(self, self.optimizer, self.schedule, self.schedule_interval)


def _shrink(image: Tensor, shorter_side: int) -> Tensor:
    """Shrink an image, uint8 [C H W], so that its shorter side has at most `shorter_side` pixels."""
    scale = shorter_side / min(image.shape[1:])
    height, width = (max(1, round(side * scale)) for side in image.shape[1:])
    return image if scale >= 1 else resize(image, (height, width))
