"""Train a net to predict the class of each pixel."""

import copy
import inspect
from collections.abc import Callable
from typing import Self

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from kit.data import Batch
from kit.data.decode import ImageSize, validate_size
from kit.ground.errors import UserError
from kit.masks.evaluation import MaskEvaluation
from kit.masks.losses import AdditiveLoss, CrossEntropy
from kit.masks.predictions import ExportedSegmenter, MaskPredictions, draw_masks, predict_in_windows, upsample
from kit.task import Sizes, Task
from kit.training.schedule import Interval, Schedule, WarmupCosine, optimizer_and_schedule


class Segmenter(Task):
    """Minimise losses such as those of `kit.masks.losses`. `kit.masks.evaluation` has the metrics, such as mean IoU.

    Args:
        net: called with `num_classes` and `in_channels`; returns a module that maps Float[B C H W] to logits,
            Float[B K H W], and has a `head`, its last layer.
        num_classes, in_channels, class_names, class_counts: set by the data module, not on the command line.
        optimizer: called with the parameter groups. Norms and biases have no weight decay.
        schedule: called with the optimizer, see `kit.training.schedule`; None keeps the learning rate constant.
        schedule_interval: advance the schedule after each `step` or `epoch`; the default depends on the schedule.
        losses: the losses to add up; by default, cross-entropy. Each is called with logits, targets and class weights:
            see `kit.masks.losses`.
        weighted: give rare classes a higher weight in the losses, as ENet does.
        window: except in training, cut larger images into overlapping windows of this height and width.
        compile: `torch.compile` the net. The first step then takes a minute.
    """

    monitor, mode = "val/miou", "max"
    Predictions = MaskPredictions

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
        losses: list[nn.Module] | None = None,
        weighted: bool = False,
        window: ImageSize | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.net = net(num_classes=num_classes, in_channels=in_channels).to(memory_format=torch.channels_last)
        self.class_names = class_names or [str(k) for k in range(num_classes)]
        self.optimizer, self.schedule, self.schedule_interval = optimizer, schedule, schedule_interval
        self.losses = nn.ModuleList(losses or [CrossEntropy()])
        for loss in self.losses:
            _check_arguments(loss)
        self.window = validate_size(window, "model.window")
        self.compiled = compile
        self.register_buffer("class_weights", _class_weights(class_counts) if weighted else None, persistent=False)

    def setup(self, stage: str) -> None:
        if self.compiled:
            self.net.compile()

    def forward(self, images: Tensor) -> Tensor:
        """Map Float[B C H W] to logits, Float[B K H W]."""
        if self.window is None or self.training:
            return self.net(images)
        return predict_in_windows(self.net, images, self.window)

    def loss_terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the sums of the J losses and their divisors, Float[J] each."""
        arguments = self(batch.images), batch.targets, self.class_weights
        count = len(batch.keys)
        terms = []
        for loss in self.losses:
            if isinstance(loss, AdditiveLoss):
                terms.append(loss.terms(*arguments))
            else:  # a mean over the batch
                mean = loss(*arguments)
                terms.append((mean * count, mean.new_full((), count)))
        sums, divisors = zip(*terms, strict=True)
        return torch.stack(sums), torch.stack([divisor.to(sums[0].dtype) for divisor in divisors])

    @property
    def additive(self) -> bool:
        """Whether each loss is an `AdditiveLoss`, so that the loss terms of the parts of a batch add up exactly."""
        return all(isinstance(loss, AdditiveLoss) for loss in self.losses)

    def evaluate(self, batch: Batch) -> Tensor:
        """Return logits, Float[B K H W]."""
        return self(batch.images)

    def evaluation(self, split: str) -> MaskEvaluation:
        return MaskEvaluation(self.class_names)

    def predict(self, images: Tensor, sizes: Sizes, unpadded_sizes: Sizes) -> list[Tensor]:
        """Return the class of each pixel of the original images, uint8 [H W] each, on the CPU."""
        rows = zip(self(images), sizes, unpadded_sizes, strict=True)
        return [predicted_classes(logits[:, :height, :width], size).cpu() for logits, size, (height, width) in rows]

    def exported(self) -> ExportedSegmenter:
        """Return the module that `project.export` writes to a file. It does not use `window`."""
        left_out = f"model.window {list(self.window)}: the net gets whole images" if self.window else ""
        return ExportedSegmenter(self.net, left_out)

    def plain(self) -> Self:
        """Return the task that `project.export` compares the file with: the same net without `window`."""
        task = copy.copy(self)
        task.window = None
        return task

    def draw(self, image: Tensor, predicted: Tensor | None = None, target: Tensor | None = None) -> Tensor:
        return draw_masks(image, self.class_names, predicted, target)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return optimizer_and_schedule(self, self.optimizer, self.schedule, self.schedule_interval)


def _check_arguments(loss: nn.Module) -> None:
    """Raise `UserError` if a loss does not take logits, targets and class weights. torch's take fewer."""
    try:
        inspect.signature(loss.forward).bind("logits", "targets", "class weights")
    except TypeError:
        why = "cannot be called with logits, targets and class weights"
        raise UserError(f"model.losses: {type(loss).__name__} {why}; use a class of kit.masks or your own") from None


def predicted_classes(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Upsample logits, Float[K h w], to `size`, (H, W), and return the class of each pixel, uint8 [H W]."""
    highest_logits = torch.full(size, -torch.inf, device=logits.device)
    classes = torch.zeros(size, dtype=torch.uint8, device=logits.device)
    for k, class_logits in enumerate(logits.float()):  # class by class, to save memory
        upsampled = upsample(class_logits[None, None], size)[0, 0]
        classes.masked_fill_(upsampled > highest_logits, k)
        torch.maximum(highest_logits, upsampled, out=highest_logits)  # in place, to save memory: `size` may be large
    return classes


def _class_weights(counts: list[int] | None) -> Tensor:
    """Return class weights, Float[K]: 1 / ln(1.02 + share of the pixels) (ENet, Paszke et al. 2016, section 5.2)."""
    if not counts:
        raise UserError("model.weighted needs model.class_counts, the number of training pixels of each class")
    # An unknown count, -1, is treated as 0, which gives the highest weight.
    pixels = torch.tensor(counts, dtype=torch.float).clamp(min=0)
    return 1 / (1.02 + pixels / pixels.sum().clamp(min=1)).log()
