"""Training a net to find the objects in an image."""

import copy
from collections.abc import Callable, Sequence
from typing import Self

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from kit.boxes import pictures
from kit.boxes.evaluation import BoxEvaluation
from kit.boxes.exported import Exported, to_original
from kit.boxes.flips import Flip, in_flips
from kit.boxes.metric import COCO_LIMIT
from kit.boxes.predictions import Predictions
from kit.data import Batch
from kit.data.decode import fitted_size
from kit.task import Task
from kit.training.schedule import Interval, Schedule, WarmupCosine, optimizer_and_schedule
from kit.zoo.detection import limit_detections


class Detector(Task):
    """The net's own losses; average precision in the original images' pixels, on the boxes as annotated.

    Args:
        net: called with `num_classes` and `in_channels`; follows the protocol of `project.detection.model`.
        num_classes, in_channels, class_names, class_counts, most_objects: set by the data, not on the command line. The
            net returns up to `most_objects` detections of an image, the largest number of objects in a training image,
            but at least 100, as in COCO. The metric counts as many.
        optimizer: gets two parameter groups, the second (norms and biases) without weight decay.
        schedule: called with the optimizer; for its length and when it steps see `kit.training.schedule`.
        schedule_interval: step the schedule after each optimizer `step` or each `epoch`; by default, as suits it.
        flips: in evaluation, detections in these mirror images are merged with those in the image; each takes as long.
        compile: `torch.compile` the net's backbone; the first step then takes a minute.
    """

    monitor, mode = "val/map", "max"
    Predictions = Predictions

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
        self.limit = max(COCO_LIMIT, most_objects)
        limit_detections(self.net, self.limit)
        self.class_names = class_names or [str(k) for k in range(1, num_classes + 1)]
        self.optimizer, self.schedule, self.schedule_interval = optimizer, schedule, schedule_interval
        self.flips, self.compiled = flips, compile

    def setup(self, stage: str) -> None:
        if self.compiled:
            self.net.backbone.compile()

    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Float[B C H W] to `boxes`, `scores` and `labels` of each image, in pixels of these images."""
        return in_flips(self.net, images, self.flips, self.limit) if self.flips else self.net(images)

    def loss_terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The summed loss and what it is divided by, Float[1] both, which add up over the parts of a batch."""
        losses = self.net(batch.images, [_trainable(target) for target in batch.targets])
        foreground = losses.pop("foreground", None)
        mean = sum(losses.values()).view(1)
        weights = mean.new_full((1,), len(batch.keys)) if foreground is None else foreground.to(mean.dtype).view(1)
        return mean * weights.clamp(min=1), weights

    @property
    def additive(self) -> bool:
        """Whether the terms do add up exactly, which is the net's to say."""
        return getattr(self.net, "additive", False)

    def evaluate(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return what is detected in each image, in the original image's pixels and on the CPU."""
        shown = tuple(batch.images.shape[-2:])
        sizes = [tuple(target["size"].tolist()) for target in batch.targets]
        detected = zip(self(batch.images), sizes, strict=True)
        return [_on_cpu(to_original(boxes, size, fitted_size(size, shown))) for boxes, size in detected]

    def evaluation(self, split: str) -> BoxEvaluation:
        return BoxEvaluation(self.class_names, self.limit)

    def predict(
        self, images: Tensor, sizes: Sequence[tuple[int, int]], areas: Sequence[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """What is found in Float[B C H W], in pixels of the original images and on the CPU, the surest first.

        Args:
            sizes: the original images' heights and widths.
            areas: the heights and widths that they take of `images`, from the top left.

        Returns:
            of each image `boxes` Float[N 4] XYXY, `scores` Float[N] and `labels` Long[N] from 1 to K
        """
        found = []
        for detected, size, area in zip(self(images), sizes, areas, strict=True):
            order = detected["scores"].argsort(descending=True)
            found.append(_on_cpu(to_original({key: value[order] for key, value in detected.items()}, size, area)))
        return found

    def exported(self) -> Exported:
        """Return the module that `project.export` writes to a file: it gives the net's detections, without `flips`."""
        left_out = f"model.flips ({', '.join(self.flips)}): each takes as long again" if self.flips else ""
        return Exported(self.net, left_out)

    def plain(self) -> Self:
        """Return a copy of this task with the same net and without `flips`, as in an exported file."""
        task = copy.copy(self)
        task.flips = ()
        return task

    def draw(
        self, image: Tensor, predicted: dict[str, Tensor] | None = None, target: dict[str, Tensor] | None = None
    ) -> Tensor:
        """See `kit.boxes.pictures`."""
        return pictures.draw(image, self.class_names, predicted, target)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return optimizer_and_schedule(self, self.optimizer, self.schedule, self.schedule_interval)


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.cpu() for key, value in tensors.items()}


def _trainable(target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without crowds: their boxes say where objects are, but not how many nor which."""
    single = ~target["crowd"]
    return {"boxes": target["boxes"][single], "labels": target["labels"][single]}
