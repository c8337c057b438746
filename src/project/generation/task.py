"""Training a net to make images of a class, out of noise."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from kit.data import Batch
from kit.ground.errors import UserError
from kit.samples import pictures
from kit.samples.comparison import FEWEST, report_samples
from kit.samples.evaluation import FlowEvaluation
from kit.samples.exported import ExportedGenerator
from kit.samples.inception import load as load_inception
from kit.samples.noise import noise
from kit.samples.predictions import Predictions
from kit.task import Task
from kit.training.schedule import Interval, Schedule, WarmupCosine, optimizer_and_schedule
from project.generation.flow import Flow, Heun, Sampler, Solver, on_the_way

GOLDEN_RATIO = 0.618034  # its multiples, cut to fractions, are spread evenly, however many there are
SHOWN = 20  # samples that TensorBoard shows through time


class Generator(Task):
    """Flow matching: the mean squared error of the velocity (`loss`), the share of its square that is `explained`, and
    how near samples are to real images.

    The samples are judged in the features of a classifier that is trained on the same real images, see
    `kit.samples.comparison`.

    Args:
        net: called with `num_classes` and `in_channels`; maps Float[B C H W], times Float[B] and classes Long[B], where
            K is "any", to Float[B C H W].
        num_classes, in_channels, class_names, class_counts: set by the data; the command line does not take them.
        optimizer: gets two parameter groups, the second (norms and biases) without weight decay.
        schedule: called with the optimizer; for its length and when it steps see `kit.training.schedule`.
        schedule_interval: step the schedule after each optimizer `step` or each `epoch`; by default, as suits it.
        solver: makes samples.
        guidance: by how much samples are more of their class than learned: 1 leaves them as they are, more makes them
            clearer and more alike (classifier-free guidance, Ho and Salimans 2021).
        unlabelled: the share of training images whose class is withheld, which guidance needs.
        samples: how many are judged in the report, at most as there are training images.
        judges: the folder where the classifier that judges is kept for the next run.
        inception: a file with Inception's weights, for standard FID beside that: see `kit.samples.inception`.
        compile: `torch.compile` the net; the first step then takes a minute.
    """

    monitor, mode = "val/explained", "max"
    up_to_one = False  # of the velocity at an early time only the mean over all images can be known
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
        solver: Solver | None = None,
        guidance: float = 1.0,
        unlabelled: float = 0.1,
        samples: int = 1000,
        judges: str = ".cache",
        inception: str | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= unlabelled < 1:
            raise UserError(f"model.unlabelled is {unlabelled}, but must be at least 0 and below 1")
        if samples < FEWEST:
            raise UserError(f"model.samples is {samples}, but must be at least {FEWEST}")
        if not math.isfinite(guidance):
            raise UserError(f"model.guidance is {guidance}, but must be a number, as 1 or 2")
        self.save_hyperparameters(logger=False)
        self.net = net(num_classes=num_classes, in_channels=in_channels).to(memory_format=torch.channels_last)
        self.num_classes, self.in_channels = num_classes, in_channels
        self.class_names = class_names or [str(k) for k in range(num_classes)]
        self.optimizer, self.schedule, self.schedule_interval = optimizer, schedule, schedule_interval
        self.compiled = compile
        self.solver, self.guidance, self.unlabelled = solver or Heun(), guidance, unlabelled
        self.samples, self.judges, self.inception = samples, Path(judges), inception

    def setup(self, stage: str) -> None:
        if self.inception:
            load_inception(self.inception)  # what is wrong with it is said before training, not after
        if self.compiled:
            self.net.compile()

    def forward(self, places: Tensor, times: Tensor, classes: Tensor) -> Tensor:
        """Velocities, Float[B C H W]."""
        return self.net(places, times, classes)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, classes = batch.images, batch.targets
        withheld = torch.rand(len(images), device=images.device) < self.unlabelled
        # Most often in the middle, where it is decided what the image will be (Esser et al. 2024, section 3.1).
        times = torch.randn(len(images), device=images.device, dtype=images.dtype).sigmoid()
        flow = on_the_way(images, torch.randn_like(images), times, classes.masked_fill(withheld, self.num_classes))
        return self.loss(flow, len(batch.keys))

    def loss_terms(self, flow: Flow) -> tuple[Tensor, Tensor]:
        """The summed loss and what it is divided by, Float[1] both, which add up over the parts of a batch."""
        errors = self._errors(flow)
        return errors.sum().view(1), errors.new_full((1,), len(errors))

    def _errors(self, flow: Flow) -> Tensor:
        """Of each image the mean square, Float[B]."""
        found = self(flow.places, flow.times, flow.classes)
        return (found - flow.velocities).square().flatten(1).mean(1)

    def evaluate(self, batch: Batch) -> Tensor:
        """Return the mean square of each image's velocity, and of what the net misses of it: Float[B 2].

        An image's noise and time depend on its key alone, so that each evaluation asks the same.
        """
        start = noise(batch.keys.tolist(), batch.images.shape[1:]).to(batch.images.device)
        times = ((batch.keys + 0.5) * GOLDEN_RATIO % 1).to(batch.images.dtype)
        flow = on_the_way(batch.images, start, times, batch.targets)
        return torch.stack([flow.velocities.square().flatten(1).mean(1), self._errors(flow)], 1)

    def evaluation(self, split: str) -> FlowEvaluation:
        return FlowEvaluation(self.class_names)

    def report(self, split: str) -> None:
        """Log the metrics, and after training those of samples."""
        super().report(split)
        if self.trainer.state.fn != "fit":
            report_samples(self, split)

    def sample(
        self,
        classes: Tensor,
        seeds: Sequence[int],
        size: Sequence[int],
        batch_size: int = 100,
        by: Sampler | None = None,
    ) -> Tensor:
        """Return images, uint8 [N C H W] on the CPU, each of its own seed, whatever the others are.

        Args:
            classes: Long[N]; K is "any".
            seeds: N of them.
            size: height and width.
            by: what makes them; by default with the task's own solver and guidance.
        """
        sampler = by or self.sampler()
        shape = sampler.solver.noises, self.in_channels, *size
        parts = zip(classes.split(batch_size), torch.tensor(seeds).split(batch_size), strict=True)
        return torch.cat([sampler.images(noise(numbers.tolist(), shape), own, self.device) for own, numbers in parts])

    def sampler(self, guidance: float | None = None, solver: Solver | None = None) -> Sampler:
        strength = self.guidance if guidance is None else guidance
        return Sampler(self, self.num_classes, solver or self.solver, strength)

    def exported(self) -> ExportedGenerator:
        """Return the module that `project.export` writes to a file: it makes images, with the run's solver."""
        sampler = Sampler(self.net, self.num_classes, self.solver, self.guidance)
        return ExportedGenerator(sampler, self.num_classes, self.solver.noises)

    def sampled(self, size: Sequence[int]) -> Tensor:
        """Samples of the same noise each time, with the names of their classes, uint8 [3 H W]."""
        classes = torch.arange(SHOWN) % self.num_classes
        names = [self.class_names[k] for k in classes.tolist()]
        return pictures.grid(self.sample(classes, range(SHOWN), size), SHOWN // 2, names, pictures.LARGE)

    def draw(self, image: Tensor, predicted: Tensor | None = None, target: Any = None) -> Tensor:
        """See `kit.samples.pictures`."""
        return pictures.draw(image, self.class_names, predicted, target)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return optimizer_and_schedule(self, self.optimizer, self.schedule, self.schedule_interval)
