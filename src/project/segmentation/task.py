"""Training a net to tell the class of each pixel."""

import copy
from collections.abc import Callable, Sequence
from typing import Self

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from kit.data import Batch
from kit.data.decode import validate_size
from kit.ground.errors import UserError
from kit.masks import pictures
from kit.masks.evaluation import MaskEvaluation
from kit.masks.exported import Exported
from kit.masks.losses import CrossEntropy, Mean
from kit.masks.predictions import Predictions
from kit.task import Task
from kit.training.schedule import Interval, Schedule, WarmupCosine, optimizer_and_schedule
from kit.training.weights import allow_freezing, freeze_all_but_head, require_epochs
from kit.zoo.segmentation import enlarged, in_windows


class Segmenter(Task):
    """Mean intersection over union, pixel accuracy and cross-entropy, over all pixels of a split that are not ignored.

    A class that neither the targets nor the predictions show has no IoU and is left out of the mean.

    Args:
        net: called with `num_classes` and `in_channels`; maps Float[B C H W] to logits Float[B K H W] and has a `head`.
        num_classes, in_channels, class_names, class_counts: set by the data; the command line does not take them.
        optimizer: gets two parameter groups, the second (norms and biases) without weight decay.
        schedule: called with the optimizer; for its length and when it steps see `kit.training.schedule`.
        schedule_interval: step the schedule after each optimizer `step` or each `epoch`; by default, as suits it.
        losses: added up; each is called with logits, targets and class weights. Cross-entropy if none is given.
            See `kit.masks.losses`.
        weighted: rare classes weigh more in the losses.
        window: height and width; in evaluation larger images are cut into overlapping windows of that size.
        freeze_epochs: train the head alone for so many epochs, to fine-tune pretrained weights.
        compile: `torch.compile` the net; the first step then takes a minute.
    """

    monitor, mode = "val/miou", "max"
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
        losses: list[nn.Module] | None = None,
        weighted: bool = False,
        window: tuple[int, int] | None = None,
        freeze_epochs: int = 0,
        compile: bool = False,
    ) -> None:
        super().__init__()
        require_epochs(freeze_epochs)
        self.save_hyperparameters(logger=False)
        self.net = net(num_classes=num_classes, in_channels=in_channels).to(memory_format=torch.channels_last)
        self.class_names = class_names or [str(k) for k in range(num_classes)]
        self.optimizer, self.schedule, self.schedule_interval = optimizer, schedule, schedule_interval
        self.losses = nn.ModuleList(losses or [CrossEntropy()])
        self.window = validate_size(window, "model.window")
        self.freeze_epochs, self.compiled = freeze_epochs, compile
        self.register_buffer("class_weights", _rarity(class_counts) if weighted else None, persistent=False)

    def setup(self, stage: str) -> None:
        if self.compiled:
            self.net.compile()
        if self.freeze_epochs:
            allow_freezing(self.trainer)

    def forward(self, images: Tensor) -> Tensor:
        """Float[B C H W] to logits Float[B K H W]."""
        if self.window is None or self.training:
            return self.net(images)
        return in_windows(self.net, images, self.window)

    def on_train_epoch_start(self) -> None:
        if self.freeze_epochs and self.current_epoch <= self.freeze_epochs:
            freeze_all_but_head(self.net, self.current_epoch < self.freeze_epochs)

    def loss_terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of each loss the sum and what it is divided by, Float[J] both, which add up over the parts of a batch."""
        given = self(batch.images), batch.targets, self.class_weights
        terms = [
            loss.terms(*given) if isinstance(loss, Mean) else _over_images(loss(*given), batch) for loss in self.losses
        ]
        sums, weights = zip(*terms, strict=True)
        return torch.stack(sums), torch.stack([weight.to(sums[0].dtype) for weight in weights])

    @property
    def additive(self) -> bool:
        """Whether the terms do add up exactly; of a loss that is no `Mean` it is not known."""
        return all(isinstance(loss, Mean) for loss in self.losses)

    def evaluate(self, batch: Batch) -> Tensor:
        """Return logits, Float[B K H W]."""
        return self(batch.images)

    def evaluation(self, split: str) -> MaskEvaluation:
        return MaskEvaluation(self.class_names)

    def predict(
        self, images: Tensor, sizes: Sequence[tuple[int, int]], areas: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """The class of each pixel of the original images, on the CPU: uint8 [H W] each.

        Args:
            images: Float[B C H W].
            sizes: the original images' heights and widths.
            areas: the heights and widths that they take of `images`, from the top left.
        """
        logits = self(images)
        parts = zip(logits, sizes, areas, strict=True)
        return [likeliest(own[:, : area[0], : area[1]], size).cpu() for own, size, area in parts]

    def exported(self) -> Exported:
        """Return the module that `project.export` writes to a file: it gives masks of whole images, not of windows."""
        left_out = f"model.window {list(self.window)}: the net sees images whole" if self.window else ""
        return Exported(self.net, left_out)

    def plain(self) -> Self:
        """Return a copy of this task with the same net and without `window`, as in an exported file."""
        task = copy.copy(self)
        task.window = None
        return task

    def draw(self, image: Tensor, predicted: Tensor | None = None, target: Tensor | None = None) -> Tensor:
        """See `kit.masks.pictures`."""
        return pictures.draw(image, self.class_names, predicted, target)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return optimizer_and_schedule(self, self.optimizer, self.schedule, self.schedule_interval)


def _over_images(loss: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """As if it were a mean over the images."""
    images = loss.new_full((), len(batch.keys))
    return loss * images, images


def likeliest(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """The class of each pixel, uint8 [size], of logits Float[K h w], which are resized; class by class, since an image
    has millions of pixels."""
    best, classes = torch.full(size, -torch.inf, device=logits.device), torch.zeros(size, dtype=torch.uint8)
    classes = classes.to(logits.device)
    for k, plane in enumerate(logits.float()):
        own = enlarged(plane[None, None], size)[0, 0]
        classes.masked_fill_(own > best, k)
        best = torch.maximum(best, own)
    return classes


def _rarity(counts: list[int] | None) -> Tensor:
    """Float[K], 1 / ln(1.02 + p) of each class's share p of the pixels (ENet, Paszke et al. 2016, section 5.2)."""
    if not counts:
        raise UserError("model.weighted needs model.class_counts, the number of training pixels of each class")
    numbers = torch.tensor(counts, dtype=torch.float).clamp(min=0)  # -1 is an unknown number
    return 1 / (1.02 + numbers / numbers.sum().clamp(min=1)).log()
