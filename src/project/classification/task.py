"""Training a net to tell the class of an image."""

from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score, MulticlassStatScores
from torchvision.transforms import v2

from kit.data import Batch
from kit.ground.errors import UserError
from kit.labels import pictures
from kit.labels.exported import Exported
from kit.labels.predictions import Classified, Predictions
from kit.training.image_sizes import refuse_wrong_sizes
from kit.training.schedule import Interval, Schedule, WarmupCosine, optimizer_and_schedule
from kit.training.weights import allow_freezing, freeze_all_but_head, require_epochs

MOST_CONFUSED = 1000  # classes: a table of their confusions has the square of it


class Classifier(L.LightningModule):
    """Cross-entropy; accuracy, macro F1 and, of more than five classes, top-5 accuracy.

    Args:
        net: called with `num_classes` and `in_channels`; maps Float[B C H W] to logits Float[B K] and has a `head`.
        num_classes, in_channels, class_names, class_counts: set by the data; the command line does not take them.
        optimizer: gets two parameter groups, the second (norms and biases) without weight decay.
        schedule: called with the optimizer; for its length and when it steps see `kit.training.schedule`.
        schedule_interval: step the schedule after each optimizer `step` or each `epoch`; by default, as suits it.
        label_smoothing: the share of the target that is spread over all classes (Szegedy et al. 2016, section 7).
        mixing: `MixUp` and `CutMix` of torchvision v2, one of which, drawn anew, mixes each training batch.
        weighted: weigh each class's loss by the inverse of its frequency.
        freeze_epochs: train the head alone for so many epochs, to fine-tune pretrained weights.
        compile: `torch.compile` the net; the first step then takes a minute.
    """

    monitor, mode = "val/accuracy", "max"
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
        label_smoothing: float = 0.0,
        mixing: list[v2.Transform] | None = None,
        weighted: bool = False,
        freeze_epochs: int = 0,
        compile: bool = False,
    ) -> None:
        super().__init__()
        require_epochs(freeze_epochs)
        if not 0 <= label_smoothing < 1:
            raise UserError(f"model.label_smoothing is {label_smoothing}, but must be at least 0 and below 1")
        self.save_hyperparameters(logger=False)
        self.net = net(num_classes=num_classes, in_channels=in_channels).to(memory_format=torch.channels_last)
        self.class_names = class_names or [str(k) for k in range(num_classes)]
        self.num_classes = num_classes
        self.optimizer, self.schedule, self.schedule_interval = optimizer, schedule, schedule_interval
        self.label_smoothing, self.freeze_epochs, self.compiled = label_smoothing, freeze_epochs, compile
        self.mix = v2.RandomChoice(mixing) if mixing else None
        self.register_buffer(
            "class_weights", _inverse_frequencies(class_counts) if weighted else None, persistent=False
        )

        metrics = {"accuracy": MulticlassAccuracy(num_classes, average="micro"), "f1": MulticlassF1Score(num_classes)}
        if num_classes > 5:
            metrics["accuracy_top5"] = MulticlassAccuracy(num_classes, average="micro", top_k=5)
        self.val_loss, self.test_loss = MeanMetric(), MeanMetric()
        # No compute groups: those merge metrics whose counts happen to be equal after the first batch.
        self.val_metrics = MetricCollection(metrics, prefix="val/", compute_groups=False)
        self.test_metrics = self.val_metrics.clone(prefix="test/")
        self.counts_by_class = MulticlassStatScores(num_classes, average="none")

    def setup(self, stage: str) -> None:
        if stage == "fit":
            refuse_wrong_sizes(self)
        if self.compiled:
            self.net.compile()
        if self.freeze_epochs:
            allow_freezing(self.trainer)

    def forward(self, images: Tensor) -> Tensor:
        """Float[B C H W] to logits Float[B K]."""
        return self.net(images)

    def on_train_epoch_start(self) -> None:
        if self.freeze_epochs and self.current_epoch <= self.freeze_epochs:
            freeze_all_but_head(self.net, self.current_epoch < self.freeze_epochs)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self.mix:  # the targets are Float[B K] from here
            shares = F.one_hot(batch.targets, self.num_classes).float()
            images, targets = self.mix(batch.images, shares)
            batch = batch._replace(images=images, targets=targets)
        sums, weights = self.loss_terms(batch)
        loss = (sums / weights).sum()
        self.log("train/loss", loss, batch_size=len(batch.keys))
        return loss

    def loss_terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The summed loss and what it is divided by, Float[1] both, which add up over the parts of a batch."""
        total = F.cross_entropy(
            self(batch.images),
            batch.targets,
            weight=self.class_weights,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        if self.class_weights is None or self.mix:
            return total.view(1), total.new_full((1,), len(batch.keys))
        return total.view(1), self.class_weights[batch.targets].sum().view(1)

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        by_class = [] if self.trainer.state.fn == "fit" else [self.counts_by_class]
        return self._measure(batch, self.val_loss, self.val_metrics, *by_class)

    def on_validation_epoch_end(self) -> None:
        self._report("val/loss", self.val_loss, self.val_metrics)
        if self.trainer.state.fn != "fit":
            self._report_by_class("val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._measure(batch, self.test_loss, self.test_metrics, self.counts_by_class)

    def on_test_epoch_end(self) -> None:
        self._report("test/loss", self.test_loss, self.test_metrics)
        self._report_by_class("test")

    def _measure(self, batch: Batch, loss: MeanMetric, *metrics: Metric | MetricCollection) -> Tensor:
        logits = self(batch.images)
        if len(logits):  # in a distributed run a process may get no samples
            losses = F.cross_entropy(logits, batch.targets, reduction="none")
            loss.update(losses)
            for metric in metrics:
                metric.update(logits, batch.targets)
            return _seen(losses, logits, batch.targets)
        return logits.new_zeros(0, 3)

    def evidence(self, batch: Batch) -> Tensor:
        """Of each image its loss, the class that it was taken for and the one that it is of: Float[B 3]."""
        logits = self(batch.images)
        return _seen(F.cross_entropy(logits, batch.targets, reduction="none"), logits, batch.targets)

    def predict(
        self, images: Tensor, sizes: Sequence[tuple[int, int]], areas: Sequence[tuple[int, int]]
    ) -> list[Classified]:
        """Of each of Float[B C H W]; for `sizes` and `areas`, which make no difference here, see the other tasks."""
        probabilities = self(images).float().softmax(1).cpu()
        best = zip(*(tensor.tolist() for tensor in probabilities.max(1)), probabilities, strict=True)
        return [Classified(self.class_names[k], value, row) for value, k, row in best]

    def exported(self) -> Exported:
        """What a file of `project.export` answers: the net and its softmax."""
        return Exported(self.net)

    def measure(self, evidence: list[Tensor]) -> float:
        """The accuracy."""
        return float(_right(evidence).double().mean())

    def shares(self, evidence: list[Tensor]) -> Tensor:
        """Float[N 2 1]."""
        right = _right(evidence).float()
        return torch.stack([right, torch.ones_like(right)], 1)[..., None]

    def badness(self, evidence: list[Tensor]) -> tuple[str, Tensor]:
        """What tells the worst images, Float[N], and its name."""
        return "loss", torch.stack(evidence)[:, 0].cpu()

    def details(self, evidence: list[Tensor]) -> dict[str, Any]:
        """See `kit.dashboard.Dashboard`: `confusion`, and the accuracy `by_class`."""
        _, predicted, targets = torch.stack(evidence).cpu().long().unbind(1)
        told = targets[predicted == targets]
        wanted, right = (torch.bincount(of, minlength=self.num_classes) for of in (targets, told))
        named = zip(self.class_names, (right / wanted).tolist(), wanted.tolist(), strict=True)
        details: dict[str, Any] = {"by_class": {f"accuracy/{name}": share for name, share, there in named if there}}
        if self.num_classes <= MOST_CONFUSED:
            pairs = torch.bincount(targets * self.num_classes + predicted, minlength=self.num_classes**2)
            details["confusion"] = pairs.view(self.num_classes, self.num_classes)
        return details

    def _report(self, loss_key: str, loss: MeanMetric, metrics: MetricCollection) -> None:
        """Over all processes: torchmetrics adds up their counts."""
        self.log_dict({loss_key: loss.compute(), **metrics.compute()})
        loss.reset()
        metrics.reset()

    def _report_by_class(self, split: str) -> None:
        """Log the accuracy of each class that has images in the split."""
        counts = self.counts_by_class.compute().view(self.num_classes, 5)
        right, there = counts[:, 0].float(), counts[:, 4].float()
        named = zip(self.class_names, right / there, there, strict=True)
        self.log_dict({f"{split}/accuracy/{name}": value for name, value, number in named if number})
        self.counts_by_class.reset()

    def draw(self, image: Tensor, predicted: Classified | None = None, target: Any = None) -> Tensor:
        """See `kit.labels.pictures`."""
        return pictures.draw(image, self.class_names, predicted, target)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return optimizer_and_schedule(self, self.optimizer, self.schedule, self.schedule_interval)


def _seen(losses: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
    """Float[B 3], exact for class numbers up to 2^24."""
    return torch.stack([losses.float(), logits.argmax(1).float(), targets.float()], 1)


def _right(evidence: list[Tensor]) -> Tensor:
    """Bool[N]."""
    _, predicted, targets = torch.stack(evidence).unbind(1)
    return predicted == targets


def _inverse_frequencies(counts: list[int] | None) -> Tensor:
    """Float[K] with mean 1 over the training images; 0 for a class that has none."""
    if not counts:
        raise UserError("model.weighted needs model.class_counts, the number of training images of each class")
    numbers = torch.tensor(counts, dtype=torch.float)
    return torch.where(numbers > 0, numbers.sum() / (len(counts) * numbers.clamp(min=1)), 0.0)
