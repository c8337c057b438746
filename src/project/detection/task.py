"""Train a net to detect objects."""

import copy
from collections.abc import Callable, Sequence
from typing import Self

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from kit.boxes.augmentation import Flip, predict_with_flips
from kit.boxes.average_precision import MAX_DETECTIONS
from kit.boxes.evaluation import BoxEvaluation
from kit.boxes.predictions import BoxPredictions, ExportedDetector, draw_boxes, to_original
from kit.data import Batch
from kit.data.decode import fitted_size
from kit.task import Task
from kit.training.schedule import Interval, Schedule, WarmupCosine, optimizer_and_schedule
from kit.zoo.detection import limit_detections


class Detector(Task):
    """The losses of the net; average precision in pixels of the original images as the metric.

    Args:
        net: called with `num_classes` and `in_channels`; `project.detection.model` describes its interface.
        num_classes, in_channels, class_names, class_counts, most_objects: set by the data module, not on the command
            line. `most_objects` is the largest number of objects in a training image. The net returns up to this number
            of detections for an image, but at least 100 as in COCO, and the metric counts as many.
        optimizer: gets two parameter groups; the second (norms and biases) has no weight decay.
        schedule: called with the optimizer; `kit.training.schedule` describes its length and its steps.
        schedule_interval: whether the schedule advances each `step` or each `epoch`; by default the usual one.
        flips: mirror images whose detections are merged with those of the image in evaluation. Each takes as long as
            the image.
        compile: `torch.compile` the backbone of the net. The first step then takes a minute.
    """

    monitor, mode = "val/map", "max"
    Predictions = BoxPredictions

    def __init__(
        self,
        net: Callable[..., nn.Module],
        num_classes: int,
        in_channels: int,
        class_names: list[str] | None = None,
        class_counts: list[int] | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: Schedule | None = WarmupCosine,
        schedule_interval: Interval | None = None,
        flips: Sequence[Flip] = (),
        compile: bool = False,
        most_objects: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.net = net(num_classes=num_classes, in_channels=in_channels).to(memory_format=torch.channels_last)
        self.max_detections = max(MAX_DETECTIONS, most_objects)
        limit_detections(self.net, self.max_detections)
        self.class_names = class_names or [str(k) for k in range(1, num_classes + 1)]
        self.optimizer, self.schedule, self.schedule_interval = optimizer, schedule, schedule_interval
        self.flips, self.compiled = flips, compile

    def setup(self, stage: str) -> None:
        if self.compiled:
            self.net.backbone.compile()

    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Float[B C H W] to `boxes`, `scores` and `labels` of each image, in pixels of these images."""
        if not self.flips:
            return self.net(images)
        return predict_with_flips(self.net, images, self.flips, self.max_detections)

    def loss_terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the summed loss and its divisor, Float[1] both. They add up over the parts of a batch."""
        losses = self.net(batch.images, [_without_crowds(target) for target in batch.targets])
        foreground = losses.pop("foreground", None)
        mean = sum(losses.values()).view(1)
        divisor = mean.new_full((1,), len(batch.keys)) if foreground is None else foreground.to(mean.dtype).view(1)
        return mean * divisor.clamp(min=1), divisor

    @property
    def additive(self) -> bool:
        """Whether the terms add up exactly. Only the net knows this."""
        return getattr(self.net, "additive", False)  # the net may be any class

    def evaluate(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return the detections of each image in pixels of the original image, on the CPU."""
        input_size = tuple(batch.images.shape[-2:])
        sizes = [tuple(target["size"].tolist()) for target in batch.targets]
        detected = zip(self(batch.images), sizes, strict=True)
        return [_on_cpu(to_original(boxes, size, fitted_size(size, input_size))) for boxes, size in detected]

    def evaluation(self, split: str) -> BoxEvaluation:
        return BoxEvaluation(self.class_names, self.max_detections)

    def predict(
        self, images: Tensor, sizes: Sequence[tuple[int, int]], areas: Sequence[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Detect objects. The results are in pixels of the original images and on the CPU, highest score first.

        Args:
            images: Float[B C H W].
            sizes: the heights and widths of the original images.
            areas: the height and width of the part of `images` that each original fills, from the top left.

        Returns:
            of each image `boxes` Float[N 4] XYXY, `scores` Float[N] and `labels` Long[N] from 1 to K.
        """
        predictions = []
        for detected, size, area in zip(self(images), sizes, areas, strict=True):
            order = detected["scores"].argsort(descending=True)
            ordered = {key: value[order] for key, value in detected.items()}
            predictions.append(_on_cpu(to_original(ordered, size, area)))
        return predictions

    def exported(self) -> ExportedDetector:
        """Return the module that `project.export` writes to a file: the net without `flips`."""
        left_out = f"model.flips ({', '.join(self.flips)}): each takes as long again" if self.flips else ""
        return ExportedDetector(self.net, left_out)

    def plain(self) -> Self:
        """Return a copy of this task with the same net and without `flips`, as in an exported file."""
        task = copy.copy(self)
        task.flips = ()
        return task

    def draw(
        self, image: Tensor, predicted: dict[str, Tensor] | None = None, target: dict[str, Tensor] | None = None
    ) -> Tensor:
        return draw_boxes(image, self.class_names, predicted, target)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return optimizer_and_schedule(self, self.optimizer, self.schedule, self.schedule_interval)


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.cpu() for key, value in tensors.items()}


def _without_crowds(target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop crowds: their boxes do not show how many objects there are, nor which."""
    single = ~target["crowd"]
    return {"boxes": target["boxes"][single], "labels": target["labels"][single]}
