"""Training a net to find the objects in an image."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Self

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from kit.boxes import pictures
from kit.boxes.exported import Exported, to_original
from kit.boxes.flips import Flip, in_flips
from kit.boxes.metric import COCO_LIMIT, AveragePrecision, Seen, average_precision, precision_by_image, wrong
from kit.boxes.predictions import Predictions
from kit.data import Batch
from kit.data.decode import fit
from kit.ground.errors import NotMeasured
from kit.training.schedule import Interval, Schedule, WarmupCosine, optimizer_and_schedule
from kit.zoo.detection import limit_detections


class Detector(L.LightningModule):
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
        self.val_precision, self.test_precision = AveragePrecision(self.limit), AveragePrecision(self.limit)

    def setup(self, stage: str) -> None:
        if self.compiled:
            self.net.backbone.compile()

    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Float[B C H W] to `boxes`, `scores` and `labels` of each image, in pixels of these images."""
        return in_flips(self.net, images, self.flips, self.limit) if self.flips else self.net(images)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        sums, weights = self.loss_terms(batch)
        loss = (sums / weights.clamp(min=1)).sum()
        self.log("train/loss", loss, batch_size=len(batch.keys))
        return loss

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

    def validation_step(self, batch: Batch, batch_idx: int) -> list[Seen]:
        return self._measure(batch, self.val_precision)

    def on_validation_epoch_end(self) -> None:
        training = self.trainer.state.fn == "fit"
        values = self.val_precision.compute(self.class_names, by_class=not training)
        self.val_precision.reset()
        if "map" not in values and training and not self.trainer.sanity_checking:
            raise NotMeasured("no validation image that was used has a box, so val/map cannot choose a checkpoint")
        self.log_dict({f"val/{key}": value for key, value in values.items()})

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._measure(batch, self.test_precision)

    def on_test_epoch_end(self) -> None:
        values = self.test_precision.compute(self.class_names, by_class=True)
        self.test_precision.reset()
        values.setdefault("map", float("nan"))  # it is missing if no image has a box
        self.log_dict({f"test/{key}": value for key, value in values.items()})

    def _measure(self, batch: Batch, precision: AveragePrecision) -> list[Seen]:
        evidence = self.evidence(batch)
        for image in evidence:
            precision.update(*image)
        return evidence

    def evidence(self, batch: Batch) -> list[Seen]:
        """What is detected and annotated in each image."""
        if not len(batch.keys):  # in a distributed run a process may get no samples
            return []
        evidence = []
        for key, detected, target in zip(batch.keys.tolist(), self(batch.images), batch.targets, strict=True):
            annotated = {"boxes": target["annotated"], "labels": target["labels"], "iscrowd": target["crowd"].long()}
            size = tuple(target["size"].tolist())
            in_original = to_original(detected, size, fit(size, tuple(batch.images.shape[-2:])))
            evidence.append(Seen(key, _on_cpu(in_original), _on_cpu(annotated)))
        return evidence

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

    def measure(self, evidence: list[Seen]) -> float:
        """`map`; NaN where no image has a box."""
        return average_precision(evidence, self.class_names, self.limit).get("map", float("nan"))

    def shares(self, evidence: list[Seen]) -> Tensor:
        """Float[N 2 1], of each image's own average precision: resampled, `map` itself would take minutes."""
        values = precision_by_image(evidence, len(self.class_names), self.limit)
        return torch.stack([values.nan_to_num(), values.isfinite().float()], 1)[..., None]

    def badness(self, evidence: list[Seen]) -> tuple[str, Tensor]:
        """What tells the worst images, Float[N], and its name."""
        return "wrong", torch.tensor([wrong(image, pictures.LEAST_SCORE) for image in evidence])

    def details(self, evidence: list[Seen]) -> dict[str, Any]:
        """See `kit.dashboard.Dashboard`: `by_class` and `precision_recall` of the last validation."""
        return self.val_precision.classes

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
