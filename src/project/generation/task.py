"""Train a net to generate images of given classes from noise."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from kit.data import Batch
from kit.ground.errors import UserError
from kit.ground.ranges import FiniteFloat, ShareBelowOne
from kit.samples.comparison import MIN_IMAGES, report_samples
from kit.samples.evaluation import FlowEvaluation
from kit.samples.images import LARGE_SIDE, draw_sample, image_grid, noise
from kit.samples.predictions import ExportedGenerator, SampleFiles
from kit.task import Task
from kit.training.schedule import Interval, Schedule, WarmupCosine, optimizer_and_schedule
from project.generation.flow import FlowBatch, Heun, Sampler, Solver, flow_batch

GOLDEN_STEP = 0.618034  # the fractional parts of its multiples are evenly spread over [0, 1]
NUM_SHOWN = 20  # the number of samples in the picture of `draw_generated`


class Generator(Task):
    """Minimise the mean squared error of the velocity: see `project.generation.flow`.

    The metric `explained` is max(0, 1 - error / mean square of the velocity). It is 1 for a perfect prediction, and 0
    for a prediction no better than zeros. The final report also compares samples (generated images) with real images:
    see `kit.samples.comparison`.

    Args:
        net: called with `num_classes` and `in_channels`; returns a module that maps points Float[B C H W], times
            Float[B] and classes Long[B] to velocities Float[B C H W]. Class K means that no class is given.
        num_classes, in_channels, class_names: set by the data module, not on the command line.
        optimizer: called with the parameter groups. Norms and biases have no weight decay.
        schedule: called with the optimizer, see `kit.training.schedule`; None keeps the learning rate constant.
        schedule_interval: advance the schedule after each `step` or `epoch`; the default depends on the schedule.
        solver: generates samples; by default `Heun`.
        guidance: see `flow.guided_velocity`. 1 is no guidance; a higher value makes samples clearer and more alike.
        unlabelled: the share of training images that the net sees without their class; guidance needs a share above 0.
        samples: the number of samples in the final report, limited to the number of training images.
        compile: `torch.compile` the net. The first step then takes a minute.
    """

    monitor, mode = "val/explained", "max"
    has_known_maximum = False  # near time 0 no net can know the image, so `explained` cannot reach 1
    Predictions = SampleFiles

    def __init__(
        self,
        net: Callable[..., nn.Module],
        num_classes: int,
        in_channels: int,
        class_names: list[str] | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: Schedule | None = WarmupCosine,
        schedule_interval: Interval | None = None,
        solver: Solver | None = None,
        guidance: FiniteFloat = 1.0,
        unlabelled: ShareBelowOne = 0.1,
        samples: int = 1000,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if samples < MIN_IMAGES:
            raise UserError(f"model.samples is {samples}, but must be at least {MIN_IMAGES}")
        self.save_hyperparameters(logger=False)
        self.net = net(num_classes=num_classes, in_channels=in_channels).to(memory_format=torch.channels_last)
        self.num_classes, self.in_channels = num_classes, in_channels
        self.class_names = class_names or [str(k) for k in range(num_classes)]
        self.optimizer, self.schedule, self.schedule_interval = optimizer, schedule, schedule_interval
        self.solver, self.guidance, self.unlabelled = solver or Heun(), guidance, unlabelled
        self.num_samples, self.compiled = samples, compile

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.make_sampler()  # raises an error if `guidance` cannot be used
        if self.compiled:
            self.net.compile()

    def forward(self, points: Tensor, times: Tensor, classes: Tensor) -> Tensor:
        """Return velocities, Float[B C H W]."""
        return self.net(points, times, classes)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, classes = batch.images, batch.targets
        is_unlabelled = torch.rand(len(images), device=images.device) < self.unlabelled
        # Most times are near 0.5, where velocities are hardest to predict (Esser et al. 2024, section 3.1).
        times = torch.randn(len(images), device=images.device, dtype=images.dtype).sigmoid()
        flow = flow_batch(images, torch.randn_like(images), times, classes.masked_fill(is_unlabelled, self.num_classes))
        return self.loss(flow, len(batch.keys))  # `Task.loss` calls `loss_terms`

    def loss_terms(self, flow: FlowBatch) -> tuple[Tensor, Tensor]:
        """Return the summed loss and its divisor, Float[1] each."""
        errors = self._errors(flow)
        return errors.sum().view(1), errors.new_full((1,), len(errors))

    def _errors(self, flow: FlowBatch) -> Tensor:
        """Return the mean squared error of each image, Float[B]."""
        velocities = self(flow.points, flow.times, flow.classes)
        return (velocities - flow.velocities).square().flatten(1).mean(1)

    def evaluate(self, batch: Batch) -> Tensor:
        """Return the mean square of the velocity and the mean squared error of each image, Float[B 2].

        The noise and the time of an image depend only on its key, so that every evaluation is the same.
        """
        keys = batch.keys.tolist()
        noise_images = noise(keys, batch.images.shape[1:]).to(batch.images)
        # Python computes with 64 bits. With 32 bits, many large keys would get the same time.
        times = torch.tensor([(key + 0.5) * GOLDEN_STEP % 1 for key in keys]).to(batch.images)
        flow = flow_batch(batch.images, noise_images, times, batch.targets)
        return torch.stack([flow.velocities.square().flatten(1).mean(1), self._errors(flow)], 1)

    def evaluation(self, split: str) -> FlowEvaluation:
        return FlowEvaluation(self.class_names)

    def report(self, split: str) -> None:
        """Log the metrics and, if this is not a validation during training, the comparison of samples."""
        super().report(split)
        if self.trainer.state.fn != "fit":
            report_samples(self, split)

    def sample(
        self,
        classes: Tensor,
        seeds: Sequence[int],
        size: Sequence[int],
        batch_size: int = 100,
        sampler: Sampler | None = None,
    ) -> Tensor:
        """Generate images, uint8 [N C H W] on the CPU. Each depends only on its class and its seed.

        Args:
            classes: Long[N]; K means that no class is given.
            seeds: the N seeds of the noise.
            size: the height and width of an image.
            batch_size: the number of images in a batch of the net.
            sampler: by default, the result of `make_sampler()`.
        """
        sampler = sampler or self.make_sampler()
        shape = sampler.solver.num_noises, self.in_channels, *size
        parts = zip(torch.tensor(seeds).split(batch_size), classes.split(batch_size), strict=True)
        return torch.cat(
            [
                sampler.images(noise(seeds_of_part.tolist(), shape), classes_of_part, self.device)
                for seeds_of_part, classes_of_part in parts
            ]
        )

    def make_sampler(self, guidance: float | None = None, solver: Solver | None = None) -> Sampler:
        """Return a sampler. By default, it has the guidance and the solver of this task.

        Raises:
            UserError: `guidance` is not 1, but `unlabelled` is 0: all training images had their class.
        """
        guidance = self.guidance if guidance is None else guidance
        if guidance != 1 and not self.unlabelled:
            remedy = "train with model.unlabelled above 0, or use guidance 1"
            raise UserError(f"guidance {guidance} needs training images without their class: {remedy}")
        return Sampler(self, self.num_classes, solver or self.solver, guidance)

    def exported(self) -> ExportedGenerator:
        """Return the module that `project.export` writes to a file: a sampler with the options of this task."""
        sampler = Sampler(self.net, self.num_classes, self.solver, self.guidance)
        return ExportedGenerator(sampler, self.num_classes, self.solver.num_noises)

    def draw_generated(self, size: Sequence[int]) -> Tensor:
        """Draw samples with the names of their classes, uint8 [3 H W]. Each call uses the same noise."""
        classes = torch.arange(NUM_SHOWN) % self.num_classes
        names = [self.class_names[k] for k in classes.tolist()]
        return image_grid(self.sample(classes, range(NUM_SHOWN), size), NUM_SHOWN // 4, names, 2 * LARGE_SIDE)

    def draw(self, image: Tensor, predicted: Tensor | None = None, target: Any = None) -> Tensor:
        return draw_sample(image, self.class_names, predicted, target)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return optimizer_and_schedule(self, self.optimizer, self.schedule, self.schedule_interval)
