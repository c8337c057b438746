"""Flow matching along straight paths (Lipman et al. 2023, Flow Matching for Generative Modeling; Liu et al. 2023).

The point at time t is x = (1 - t) noise + t image: noise at time 0, an image at time 1. Its velocity is image - noise.
A net learns to predict this velocity. To generate an image, a solver follows the velocity from noise to time 1.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kit.ground.memory import in_halves
from kit.ground.ranges import NonNegativeFloat, PositiveInt
from kit.samples.images import to_uint8

VelocityFunction = Callable[[Tensor, float], Tensor]  # (points Float[B C H W], time) -> velocities Float[B C H W]


class FlowBatch(NamedTuple):
    """A batch of points on the paths from noise to images, with the velocities that the net must learn.

    points: Float[B C H W].
    times: Float[B], from 0 (noise) to 1 (image).
    classes: Long[B], 0 to K - 1 for K classes; K means that no class is given.
    velocities: Float[B C H W].
    """

    points: Tensor
    times: Tensor
    classes: Tensor
    velocities: Tensor


def flow_batch(images: Tensor, noise: Tensor, times: Tensor, classes: Tensor) -> FlowBatch:
    """Return the points at the given times, Float[B], on the paths from noise to images, Float[B C H W] both."""
    t = times.view(-1, 1, 1, 1)
    points = (1 - t) * noise + t * images
    return FlowBatch(points.contiguous(memory_format=torch.channels_last), times, classes, images - noise)


def guided_velocity(
    net: Callable[[Tensor, Tensor, Tensor], Tensor], classes: Tensor, no_class: int, guidance: float
) -> VelocityFunction:
    """Return a function that computes velocities towards images of the given classes.

    This is classifier-free guidance (Ho and Salimans 2021).

    Args:
        net: maps points, times and classes to velocities.
        classes: Long[B].
        no_class: K, the class number that means that no class is given.
        guidance: w in the velocity v_none + w (v_class - v_none). If w is 1, this is v_class, and v_none is not
            computed.
    """

    def velocity(points: Tensor, time: float) -> Tensor:
        points = points.contiguous(memory_format=torch.channels_last)
        times = torch.full_like(classes, time, dtype=points.dtype)
        v_class = net(points, times, classes)
        if guidance == 1:
            return v_class
        v_none = net(points, times, torch.full_like(classes, no_class))
        return v_none + guidance * (v_class - v_none)

    return velocity


class Solver(ABC):
    """Follow velocities from noise to images, in steps that end at evenly spaced times.

    The noise level at time t is (1 - t) / t.

    Args:
        steps: the number of steps.
        churn: before each step but the first, add noise. This multiplies the noise level by 1 + churn, so that the step
            starts at an earlier time. It corrects errors of earlier steps without more calls of the net (Karras et al.
            2022, Elucidating the Design Space of Diffusion-Based Generative Models, algorithm 2; `churn` is its gamma,
            which is at most 0.41 there).
    """

    def __init__(self, steps: PositiveInt, churn: NonNegativeFloat = 0.0) -> None:
        self.steps, self.churn = steps, churn

    @property
    def num_noises(self) -> int:
        """N: the number of noise images from which one image is generated.

        They are the noise that becomes the image and, with churn, one for each step but the first.
        """
        return self.steps if self.churn else 1

    def __call__(self, velocity: VelocityFunction, noise: Tensor) -> Tensor:
        """Map noise, Float[B N C H W], to images, Float[B C H W]."""
        x, time = noise[:, 0], 0.0
        for step in range(self.steps):
            if step and self.churn:
                x, time = add_noise(x, time, self.churn, noise[:, step])
            end = (step + 1) / self.steps
            x = x + (end - time) * self.step_velocity(velocity, x, time, end)
            time = end
        return x

    def replace(self, name: str | None = None, steps: int | None = None, churn: float | None = None) -> "Solver":
        """Return a copy with another method (`euler` or `heun`), number of steps or churn. None keeps the old value."""
        kind = {"euler": Euler, "heun": Heun, None: type(self)}[name]
        return kind(self.steps if steps is None else steps, self.churn if churn is None else churn)

    @abstractmethod
    def step_velocity(self, velocity: VelocityFunction, x: Tensor, time: float, end: float) -> Tensor:
        """Return the velocity of a step from `time` to `end`."""


def add_noise(x: Tensor, time: float, churn: float, noise: Tensor) -> tuple[Tensor, float]:
    """Add noise to points, Float[B C H W], and return them with the earlier time that they then belong to.

    The noise level, (1 - t) / t at time t, is multiplied by 1 + churn.
    """
    earlier = time / (time + (1 + churn) * (1 - time))  # (1 - earlier) / earlier = (1 + churn) * (1 - time) / time
    scale = earlier / time  # x contains time * image, and scale * x contains earlier * image
    # Variances add up: the new noise has the required variance less the variance of the noise that is there already.
    variance = (1 - earlier) ** 2 - (scale * (1 - time)) ** 2
    return scale * x + math.sqrt(variance) * noise, earlier


class Euler(Solver):
    """Take each step with the velocity at its start."""

    def __init__(self, steps: PositiveInt = 20, churn: NonNegativeFloat = 0.0) -> None:
        super().__init__(steps, churn)

    def step_velocity(self, velocity: VelocityFunction, x: Tensor, time: float, end: float) -> Tensor:
        return velocity(x, time)


class Heun(Solver):
    """Take each step with the mean of the velocities at its start and its end. A step computes the velocity twice."""

    def __init__(self, steps: PositiveInt = 10, churn: NonNegativeFloat = 0.0) -> None:
        super().__init__(steps, churn)

    def step_velocity(self, velocity: VelocityFunction, x: Tensor, time: float, end: float) -> Tensor:
        start_velocity = velocity(x, time)
        return (start_velocity + velocity(x + (end - time) * start_velocity, end)) / 2


class Sampler(nn.Module):
    """Map noise, Float[B N C H W] (see `Solver.num_noises`), and classes, Long[B], to images, Float[B C H W].

    Args:
        net: maps points, times and classes to velocities.
        no_class, guidance: see `guided_velocity`.
        solver: follows the velocities.
    """

    def __init__(self, net: nn.Module, no_class: int, solver: Solver, guidance: float) -> None:
        super().__init__()
        self.net, self.no_class, self.solver, self.guidance = net, no_class, solver, guidance

    def forward(self, noise: Tensor, classes: Tensor) -> Tensor:
        return self.solver(guided_velocity(self.net, classes, self.no_class, self.guidance), noise)

    @torch.no_grad()
    def images(self, noise: Tensor, classes: Tensor, device: torch.device) -> Tensor:
        """Generate images, uint8 [B C H W] on the CPU. If the memory of the device is too small, halve the batch."""

        def generate(noise: Tensor, classes: Tensor) -> Tensor:
            noise = noise.to(device, next(self.parameters(), noise).dtype)
            return to_uint8(self(noise, classes.to(device)).float()).cpu()

        return torch.cat(in_halves(generate, noise, classes))
