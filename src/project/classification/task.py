"""Train a net to predict the class of an image."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from kit.data import Batch
from kit.ground.errors import UserError
from kit.ground.ranges import ShareBelowOne
from kit.labels.evaluation import LabelEvaluation
from kit.labels.predictions import Classification, ExportedClassifier, LabelPredictions, draw_labels
from kit.task import Sizes, Task
from kit.training.schedule import Interval, Schedule, WarmupCosine, optimizer_and_schedule

ONE_LABEL_ERROR = (
    "each image has one label, but this model is for several: give --model project.classification.Classifier (see "
    "configs/classification_folder.yaml); if the labels are in a table, and an image may have any number of them, give "
    "--data.several_labels true instead"
)
SEVERAL_LABELS_ERROR = (
    "images have several labels, but this model is for one: give --model project.classification.MultiLabelClassifier "
    "(see configs/classification_multilabel.yaml); if the labels are in a table, and each cell is one class, give "
    "--data.label_separator null instead"
)


class Classifier(Task):
    """Minimise the cross-entropy. `kit.labels.evaluation` has the metrics: accuracy, macro F1, top-5 accuracy.

    Args:
        net: called with `num_classes` and `in_channels`; returns a module that maps Float[B C H W] to logits,
            Float[B K], and has a `head`, its last layer.
        num_classes, in_channels, class_names, class_counts, several_labels: set by the data module, not on the command
            line.
        optimizer: called with the parameter groups. Norms and biases have no weight decay.
        schedule: called with the optimizer, see `kit.training.schedule`; None keeps the learning rate constant.
        schedule_interval: advance the schedule after each `step` or `epoch`; the default depends on the schedule.
        label_smoothing: the share of each target that is spread evenly over all classes (Szegedy et al. 2016, section
            7).
        mixing: a list of torchvision's `v2.MixUp` and `v2.CutMix`. For each batch, one of them is chosen at random.
        weighted: weight the loss of each class by the inverse of its frequency.
        compile: `torch.compile` the net. The first step then takes a minute.
    """

    monitor, mode = "val/accuracy", "max"
    Predictions = LabelPredictions
    takes_several_labels = False  # whether an image may have any number of labels

    def __init__(
        self,
        net: Callable[..., nn.Module],
        num_classes: int,
        in_channels: int,
        class_names: list[str] | None = None,
        class_counts: list[int] | None = None,
        several_labels: bool | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: Schedule | None = WarmupCosine,
        schedule_interval: Interval | None = None,
        label_smoothing: ShareBelowOne = 0.0,
        mixing: list[v2.Transform] | None = None,
        weighted: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if several_labels is not None and several_labels != self.takes_several_labels:
            raise UserError(SEVERAL_LABELS_ERROR if several_labels else ONE_LABEL_ERROR)
        self.save_hyperparameters(logger=False)
        self.net = net(num_classes=num_classes, in_channels=in_channels).to(memory_format=torch.channels_last)
        self.class_names = class_names or [str(k) for k in range(num_classes)]
        self.num_classes = num_classes
        self.optimizer, self.schedule, self.schedule_interval = optimizer, schedule, schedule_interval
        self.label_smoothing, self.compiled = label_smoothing, compile
        self.mix = v2.RandomChoice(mixing) if mixing else None
        class_weights = _class_weights(class_counts) if weighted else None
        self.register_buffer("class_weights", class_weights, persistent=False)

    def setup(self, stage: str) -> None:
        if self.compiled:
            self.net.compile()

    def forward(self, images: Tensor) -> Tensor:
        """Map Float[B C H W] to logits, Float[B K]."""
        return self.net(images)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self.mix:  # the targets become Float[B K]
            is_multi_hot = batch.targets.ndim == 2
            targets = batch.targets if is_multi_hot else F.one_hot(batch.targets, self.num_classes).float()
            images, targets = self.mix(batch.images, targets)
            batch = batch._replace(images=images, targets=targets)
        return super().training_step(batch, batch_idx)

    def loss_terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the summed loss and its divisor, Float[1] each."""
        total = F.cross_entropy(
            self(batch.images),
            batch.targets,
            weight=self.class_weights,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        if self.class_weights is None or self.mix:  # no weights, or mixed targets: divide by B
            return total.view(1), total.new_full((1,), len(batch.keys))
        return total.view(1), self.class_weights[batch.targets].sum().view(1)

    def evaluate(self, batch: Batch) -> Tensor:
        """Return logits, Float[B K]."""
        return self(batch.images)

    def evaluation(self, split: str) -> LabelEvaluation:
        return LabelEvaluation(self.class_names)

    def predict(self, images: Tensor, sizes: Sizes, unpadded_sizes: Sizes) -> list[Classification]:
        """Classify images, Float[B C H W]. The sizes are not used."""
        probabilities = self(images).float().softmax(1).cpu()
        highest, classes = probabilities.max(1)
        rows = zip(classes.tolist(), highest.tolist(), probabilities, strict=True)
        return [Classification(self.class_names[k], probability, row) for k, probability, row in rows]

    def exported(self) -> ExportedClassifier:
        """Return the module that `project.export` writes to a file: the net and a softmax."""
        return ExportedClassifier(self.net)

    def draw(self, image: Tensor, predicted: Classification | None = None, target: Any = None) -> Tensor:
        return draw_labels(image, self.class_names, predicted, target)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return optimizer_and_schedule(self, self.optimizer, self.schedule, self.schedule_interval)


def _class_weights(counts: list[int] | None) -> Tensor:
    """Return class weights, Float[K]: sum of the counts / (K * count of the class); 0 for a class with the count 0."""
    if not counts:
        raise UserError("model.weighted needs model.class_counts, the number of training images of each class")
    label_counts = torch.tensor(counts, dtype=torch.float)
    weights = label_counts.sum() / (len(counts) * label_counts.clamp(min=1))
    return torch.where(label_counts > 0, weights, 0.0)
