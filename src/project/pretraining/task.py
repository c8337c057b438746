"""Train a net to map all views of an image to similar features, and different images to different ones."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from kit.data import Batch, ImageDataModule
from kit.data.samples import evenly_spaced_part
from kit.ground._lightning import data_module, reset_averaged_weights
from kit.ground.errors import UserError
from kit.ground.ranges import NonNegativeInt, PositiveInt, Share
from kit.labels.features import FeatureEvaluation
from kit.task import Task
from kit.training.schedule import Interval, Schedule, WarmupCosine, optimizer_and_schedule
from kit.training.weights import find_loaded_weights
from project.pretraining.model import views_loss
from project.pretraining.views import RandomViews

DIRECTIONS = 256  # the number of directions in which the projections are compared with a normal distribution
MIN_IMAGES = 20  # the effective rank of fewer images is low in any case
MIN_RANK = 2.0  # a lower effective rank is a collapse
MAX_FALL = 20.0  # a rank below the highest rank / MAX_FALL is also a collapse


class Pretrainer(Task):
    """Train with LeJEPA's loss (Balestriero and LeCun 2025). `kit.labels.features` has the metrics.

    The loss is low if the views of an image have similar projections, and the projections of all images are normally
    distributed. Before training, the kernels of each convolution are set to cluster centres of the patches of its own
    input, unless the net starts from pretrained weights.

    Args:
        net: called with `in_channels`; returns a module that maps Float[B C H W] to features, Float[B D], and has
            `num_features` and `cluster` as `Encoder` has.
        in_channels, num_classes, class_names: set by the data module, not on the command line.
        optimizer: called with the parameter groups. Norms and biases have no weight decay.
        schedule: called with the optimizer, see `kit.training.schedule`; None keeps the learning rate constant.
        schedule_interval: advance the schedule after each `step` or `epoch`; the default depends on the schedule.
        views: makes a random view of each image.
        num_views: the number of views of each image in a step, at least 2.
        weight: the weight that the distance of the projections from a normal distribution has in the loss.
        hidden, projection_size: the widths of the two layers of the projector, which maps features to projections.
        clustered_images: the number of training images whose patches are clustered, by k-means; 0 keeps random kernels.
    """

    monitor, mode = "val/loss", "min"
    additive = False  # a batch's distance from a normal distribution is not the sum of the distances of its parts

    def __init__(
        self,
        net: Callable[..., nn.Module],
        in_channels: int,
        num_classes: int = 1,
        class_names: list[str] | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: Schedule | None = WarmupCosine,
        schedule_interval: Interval | None = None,
        views: RandomViews | None = None,
        num_views: PositiveInt = 4,
        weight: Share = 0.02,
        hidden: PositiveInt = 512,
        projection_size: PositiveInt = 64,
        clustered_images: NonNegativeInt = 400,
    ) -> None:
        if num_views < 2:
            raise UserError(f"model.num_views is {num_views}, but must be at least 2")
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.net = net(in_channels=in_channels).to(memory_format=torch.channels_last)
        self.projector = nn.Sequential(
            nn.Linear(self.net.num_features, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, projection_size),
        )
        self.class_names = class_names or [str(k) for k in range(num_classes)]
        self.optimizer, self.schedule, self.schedule_interval = optimizer, schedule, schedule_interval
        self.views, self.num_views, self.weight = views or RandomViews(), num_views, weight
        self.clustered_images = clustered_images
        vectors = torch.randn(projection_size, DIRECTIONS, generator=torch.Generator().manual_seed(0))
        self.register_buffer("directions", F.normalize(vectors, dim=0), persistent=False)  # for evaluation
        self.step_directions = self.directions  # for the current training step
        self.step_num_images: int | None = None  # the number of images of the current step, on this device
        self.highest_rank, self.is_restored = 0.0, False  # is_restored: whether the weights come from a checkpoint

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["highest_rank"] = self.highest_rank

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.highest_rank, self.is_restored = checkpoint.get("highest_rank", 0.0), True

    def on_fit_start(self) -> None:
        """Set the kernels of the convolutions by k-means, unless the weights are pretrained or the run is resumed.

        `on_train_start` would be too late. Lightning calls it for the callbacks first, and `NanGuard` takes a snapshot
        of the weights there.
        """
        trainer, data = self.trainer, data_module(self.trainer)
        is_trained = self.is_restored or self.global_step > 0 or find_loaded_weights(self.net) is not None
        if is_trained or not self.clustered_images or not isinstance(data, ImageDataModule):
            return
        keys = evenly_spaced_part(range(len(data.samples["train"])), self.clustered_images)
        images, _ = data.images("train", keys)
        self.net.cluster(data.preprocessing.normalise(images).to(self.dtype))
        if trainer.world_size > 1:  # k-means may differ a little between GPUs
            state = {name: tensor.cpu() for name, tensor in self.net.state_dict().items()}
            self.net.load_state_dict(trainer.strategy.broadcast(state))
        reset_averaged_weights(trainer, self)

    def forward(self, images: Tensor) -> Tensor:
        """Map Float[B C H W] to features, Float[B D]."""
        return self.net(images)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.step_directions = F.normalize(torch.randn_like(self.directions, dtype=torch.float), dim=0)
        self.step_num_images = len(batch.images)
        return super().training_step(batch._replace(images=self._views_of(batch.images)), batch_idx)

    def _views_of(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return `num_views` views of each image: Float[B C H W] to Float[B V C size size]."""
        return torch.stack([self.views(images, generator) for _ in range(self.num_views)], 1)

    def _project(self, views: Tensor) -> Tensor:
        """Map views, Float[B V C H W], to projections, Float[B V P]."""
        return self.projector(self.net(views.flatten(0, 1))).unflatten(0, views.shape[:2])

    def loss_terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss times B, and B, Float[1] each. The images of the batch are views, Float[B V C H W]."""
        projections = self._project(batch.images).transpose(0, 1)
        # For a part of a batch, `gaussian_distance` must multiply by the number of images of the whole batch, too.
        loss = views_loss(projections, self.weight, self.step_directions, self.step_num_images)
        count = len(batch.keys)
        return (loss * count).view(1), loss.new_full((1,), count)

    def evaluate(self, batch: Batch) -> Tensor:
        """Return the features of each image and the projections of its views, Float[B D+V*P].

        The views of an image are the same in each validation.
        """
        generators = [torch.Generator().manual_seed(key) for key in batch.keys.tolist()]
        views = torch.cat(list(map(self._views_of, batch.images.split(1), generators)))
        return torch.cat([self(batch.images), self._project(views).flatten(1)], 1)

    def evaluation(self, split: str) -> FeatureEvaluation:
        loss = partial(views_loss, weight=self.weight, directions=self.directions.float().cpu())
        return FeatureEvaluation(self.class_names, self.net.num_features, self.num_views, loss)

    def report(self, split: str) -> None:
        super().report(split)
        rank = self.latest_evaluation.compute().get("effective_rank")
        if rank is None or math.isnan(rank) or len(self.latest_evaluation) < MIN_IMAGES or self.trainer.sanity_checking:
            return
        if message := collapse_message(rank, self.highest_rank):
            rank_zero_only(print)(f"pretraining: {message}", flush=True)
        self.highest_rank = max(self.highest_rank, rank)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return optimizer_and_schedule(self, self.optimizer, self.schedule, self.schedule_interval)


def collapse_message(rank: float, highest_rank: float) -> str:
    """Return a message if the features have collapsed, else "".

    Args:
        rank: the effective rank of the features.
        highest_rank: the highest effective rank of earlier validations, or 0.
    """
    if rank >= max(MIN_RANK, highest_rank / MAX_FALL):
        return ""
    earlier = f"; the highest before was {highest_rank:.1f}" if highest_rank else ""
    problem = f"the features have collapsed: they are nearly equal for all images (effective rank {rank:.1f}{earlier})"
    return f"{problem}; give a larger --model.weight, or a lower learning rate"
