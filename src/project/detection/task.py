"""Train a net to find objects and their boxes."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from kit.boxes.augmentation import Flip, paste_objects, predict_with_flips
from kit.boxes.evaluation import DEFAULT_THRESHOLD, MAX_DETECTIONS, BoxEvaluation
from kit.boxes.pictures import draw_boxes
from kit.boxes.predictions import BoxPredictions, ExportedDetector, to_original
from kit.data import Batch
from kit.data.decode import fitted_size
from kit.ground.ranges import Share
from kit.task import Sizes, Task
from kit.training.schedule import Interval, Schedule, WarmupCosine, optimizer_and_schedule
from kit.zoo.detection import limit_detections


class Detector(Task):
    """Minimise the net's losses. The metric is average precision: see `kit.boxes.evaluation`.

    Args:
        net: called with `num_classes` and `in_channels`; returns a detector as `project.detection.model` describes it.
        num_classes, in_channels, class_names, most_objects: set by the data module, not on the command line.
            `most_objects` is the largest number of objects in a training image. The net returns at most
            max(100, most_objects) detections for each image. The metric uses the same limit for each class in an image.
        optimizer: called with the parameter groups. Norms and biases have no weight decay.
        schedule: called with the optimizer, see `kit.training.schedule`; None keeps the learning rate constant.
        schedule_interval: advance the schedule after each `step` or `epoch`; the default depends on the schedule.
        flips: except in training, also detect objects in mirror images, and merge these detections with the others:
            `horizontal`, `vertical` or `both` (rotated by 180 degrees). Each costs one more forward pass.
        paste: the probability that an object of another training image is pasted into a training image: see
            `kit.boxes.augmentation.paste_objects`. Each batch needs at least two images.
        compile: `torch.compile` the backbone of the net. The first step then takes a minute.

    Attributes:
        threshold: Float[]. Pictures, the confusion matrix and the counts of errors use only detections with at least
            this score. Each validation sets it to the threshold with the highest F1 score over all classes. It is saved
            in checkpoints. The metrics and `predictions.json` do not use it.
    """

    monitor, mode = "val/map", "max"
    Predictions = BoxPredictions

    def __init__(
        self,
        net: Callable[..., nn.Module],
        num_classes: int,
        in_channels: int,
        class_names: list[str] | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: Schedule | None = WarmupCosine,
        schedule_interval: Interval | None = None,
        flips: Sequence[Flip] = (),
        paste: Share = 0.0,
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
        self.flips, self.paste, self.compiled, self._step_num_samples = flips, paste, compile, 0
        self.register_buffer("threshold", torch.tensor(DEFAULT_THRESHOLD))

    def setup(self, stage: str) -> None:
        if self.compiled:
            self.net.backbone.compile()

    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Map Float[B C H W] to a dict for each image: `boxes` in pixels of these images, `scores` and `labels`."""
        if not self.flips:
            return self.net(images)
        class_agnostic_nms = getattr(self.net, "class_agnostic_nms", False)
        return predict_with_flips(self.net, images, self.flips, self.max_detections, class_agnostic_nms)

    def loss_terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the summed loss and its divisor, Float[1] each.

        If `additive` is True, the values of a batch are the sums of its parts' values.
        Each of the net's losses is logged, such as `train/loss_classification`, unless this is a part of a batch.
        """
        losses = self.net(batch.images, [_without_crowds(target) for target in batch.targets])
        foreground = losses.pop("foreground", None)
        if len(batch.keys) == self._step_num_samples:
            for name, value in losses.items():
                self.log(f"train/loss_{name.removeprefix('loss_')}", value.detach(), batch_size=len(batch.keys))
        loss = sum(losses.values()).view(1)  # a mean
        divisor = loss.new_full((1,), len(batch.keys)) if foreground is None else foreground.to(loss.dtype).view(1)
        return loss * divisor.clamp(min=1), divisor

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self._step_num_samples = len(batch.keys)
        if self.paste:
            images, targets = paste_objects(batch.images, batch.targets, self.paste)
            batch = batch._replace(images=images, targets=targets)
        return super().training_step(batch, batch_idx)

    @property
    def additive(self) -> bool:
        """Whether the results of `loss_terms` for the parts of a batch add up exactly. This depends on the net."""
        return getattr(self.net, "additive", False)  # a net of another library may not have it

    def evaluate(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return the detections in each image, as `predict` does."""
        input_size = tuple(batch.images.shape[-2:])
        sizes = [tuple(target["size"].tolist()) for target in batch.targets]
        return self.predict(batch.images, sizes, [fitted_size(size, input_size) for size in sizes])

    def evaluation(self, split: str) -> BoxEvaluation:
        threshold = None if split == "val" else float(self.threshold)
        return BoxEvaluation(self.class_names, self.max_detections, threshold)

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.threshold.fill_(self.latest_evaluation.threshold)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Save the threshold that the latest validation has chosen. `EMA` would save an average of this buffer.
        threshold = self.latest_evaluation.threshold if self.latest_evaluation else self.threshold
        checkpoint["state_dict"]["threshold"] = torch.as_tensor(threshold).to(self.threshold)

    @property
    def prediction_options(self) -> dict[str, Any]:
        return {"score": float(self.threshold)}

    def predict(self, images: Tensor, sizes: Sizes, unpadded_sizes: Sizes) -> list[dict[str, Tensor]]:
        """Detect objects, highest score first. Boxes are in pixels of the original images. See `Task.predict`.

        Returns:
            a dict for each image, on the CPU: `boxes` Float[N 4] XYXY, `scores` Float[N], `labels` Long[N] from 1 to K.
        """
        predictions = []
        for detected, size, unpadded_size in zip(self(images), sizes, unpadded_sizes, strict=True):
            order = detected["scores"].argsort(descending=True, stable=True)
            original = to_original({key: value[order] for key, value in detected.items()}, size, unpadded_size)
            predictions.append({key: value.cpu() for key, value in original.items()})
        return predictions

    def exported(self) -> ExportedDetector:
        """Return the module that `project.export` writes to a file. It does not use `flips`."""
        left_out = f"model.flips ({', '.join(self.flips)}): the file makes one forward pass only" if self.flips else ""
        return ExportedDetector(self.net, left_out)

    def plain(self) -> Self:
        """Return the task that `project.export` compares the file with: the same net without `flips`."""
        task = copy.copy(self)
        task.flips = ()
        return task

    def draw(
        self, image: Tensor, predicted: dict[str, Tensor] | None = None, target: dict[str, Tensor] | None = None
    ) -> Tensor:
        threshold = self.latest_evaluation.threshold if self.latest_evaluation else float(self.threshold)
        return draw_boxes(image, self.class_names, predicted, target, threshold)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return optimizer_and_schedule(self, self.optimizer, self.schedule, self.schedule_interval)


def _without_crowds(target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a target without crowds, since the number of objects in a crowd is unknown."""
    is_single = ~target["crowd"]
    return {"boxes": target["boxes"][is_single], "labels": target["labels"][is_single]}
