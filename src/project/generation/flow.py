"""Flow matching along straight paths (Lipman et al. 2023, Flow Matching for Generative Modeling; Liu et al. 2023).

At time 0 there is noise, and at time 1 an image. In between, x = (1 - t) noise + t image moves with the velocity
image - noise. A net learns the velocity. To generate an image, a solver follows the velocity from noise to time 1.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kit.ground.errors import UserError
from kit.ground.out_of_memory import in_halves
from kit.samples.images import pixels

Velocity = Callable[[Tensor, float], Tensor]  # of points, Float[B C H W], at a time


class Flow(NamedTuple):
    """A batch of points on the paths from noise to images, with the velocities that the net must learn.

    points: Float[B C H W].
    times: Float[B], from 0 (noise) to 1 (image).
    classes: Long[B]; K means any class.
    velocities: Float[B C H W].
    """

    points: Tensor
    times: Tensor
    classes: Tensor
    velocities: Tensor


def flow_at(images: Tensor, noise: Tensor, times: Tensor, classes: Tensor) -> Flow:
    """Return the flow from noise to images, Float[B C H W] both, at the given times."""
    share = times.view(-1, 1, 1, 1)
    points = (1 - share) * noise + share * images
    return Flow(points.contiguous(memory_format=torch.channels_last), times, classes, images - noise)


def guided_velocity(
    net: Callable[[Tensor, Tensor, Tensor], Tensor], classes: Tensor, any_class: int, guidance: float
) -> Velocity:
    """Return the velocity towards images of classes, Long[B] (classifier-free guidance, Ho and Salimans 2021).

    Args:
        net: maps points, times and classes to velocities.
        classes: Long[B].
        any_class: the class that means any class.
        guidance: the factor of the difference to the velocity of any class. 1 leaves the net's velocity as it is.
    """

    def velocity(points: Tensor, time: float) -> Tensor:
        points = points.contiguous(memory_format=torch.channels_last)
        times = torch.full_like(classes, time, dtype=points.dtype)
        of_class = net(points, times, classes)
        if guidance == 1:
            return of_class
        of_any = net(points, times, torch.full_like(classes, any_class))
        return of_any + guidance * (of_class - of_any)

    return velocity


class Solver(ABC):
    """Follow velocities from noise to images, in steps of equal length from time 0 to 1.

    Args:
        steps: the number of steps.
        churn: the share of noise that is added before each step but the first; 0 adds none. Fresh noise corrects errors
            of earlier steps at no cost (Karras et al. 2022, Elucidating the Design Space of Diffusion-Based Generative
            Models, algorithm 2, where it is gamma and at most 0.41).

    Raises:
        UserError: `steps` is below 1, or `churn` is below 0.
    """

    def __init__(self, steps: int, churn: float = 0.0) -> None:
        if steps < 1:
            raise UserError(f"steps is {steps}, but must be above 0")
        if not 0 <= churn < math.inf:
            raise UserError(f"churn is {churn}, but must be at least 0, such as 0.2")
        self.steps, self.churn = steps, churn

    @property
    def num_noises(self) -> int:
        """The number N of noise images that one sample needs."""
        return self.steps if self.churn else 1

    def __call__(self, velocity: Velocity, noise: Tensor) -> Tensor:
        """Map noise, Float[B N C H W], to images, Float[B C H W]."""
        x, time = noise[:, 0], 0.0
        for step in range(self.steps):
            if step and self.churn:
                x, time = add_noise(x, time, self.churn, noise[:, step])
            end = (step + 1) / self.steps
            x = x + (end - time) * self.slope(velocity, x, time, end)
            time = end
        return x

    def changed(self, name: str | None = None, steps: int | None = None, churn: float | None = None) -> "Solver":
        """Return a copy of this solver with another method (`euler` or `heun`), number of steps or churn."""
        kind = {"euler": Euler, "heun": Heun, None: type(self)}[name]
        return kind(self.steps if steps is None else steps, self.churn if churn is None else churn)

    @abstractmethod
    def slope(self, velocity: Velocity, x: Tensor, time: float, end: float) -> Tensor:
        """Return the direction of a step from `time` to `end`."""


def add_noise(x: Tensor, time: float, churn: float, noise: Tensor) -> tuple[Tensor, float]:
    """Move points, Float[B C H W], back to an earlier time by adding noise, and return them with this time.

    At time t the share of the image is t and that of the noise 1 - t, so the noise level is (1 - t) / t. It is raised
    by the factor 1 + churn.
    """
    earlier = time / (time + (1 + churn) * (1 - time))
    share = earlier / time  # of x that is kept
    variance = (1 - earlier) ** 2 - (share * (1 - time)) ** 2  # of the noise to add, since variances add up
    return share * x + math.sqrt(variance) * noise, earlier


class Euler(Solver):
    """Take each step in the direction at its start."""

    def __init__(self, steps: int = 20, churn: float = 0.0) -> None:
        super().__init__(steps, churn)

    def slope(self, velocity: Velocity, x: Tensor, time: float, end: float) -> Tensor:
        return velocity(x, time)


class Heun(Solver):
    """Take each step in the mean of the directions at its start and at its end. It takes twice as long as Euler's."""

    def __init__(self, steps: int = 10, churn: float = 0.0) -> None:
        super().__init__(steps, churn)

    def slope(self, velocity: Velocity, x: Tensor, time: float, end: float) -> Tensor:
        first = velocity(x, time)
        return (first + velocity(x + (end - time) * first, end)) / 2


class Sampler(nn.Module):
    """Map noise, Float[B N C H W] (see `Solver.num_noises`), and classes, Long[B], to images, Float[B C H W].

    Args:
        net: maps points, times and classes to velocities.
        any_class, guidance: see `guided_velocity`.
        solver: follows the velocities.
    """

    def __init__(self, net: nn.Module, any_class: int, solver: Solver, guidance: float) -> None:
        super().__init__()
        self.net, self.any_class, self.solver, self.guidance = net, any_class, solver, guidance

    def forward(self, noise: Tensor, classes: Tensor) -> Tensor:
        return self.solver(guided_velocity(self.net, classes, self.any_class, self.guidance), noise)

    @torch.no_grad()
    def images(self, noise: Tensor, classes: Tensor, device: torch.device) -> Tensor:
        """Generate images on a device, uint8 [B C H W] on the CPU. If its memory is too small, the batch is halved."""

        def generate(noise: Tensor, classes: Tensor) -> Tensor:
            return pixels(self(noise.to(device), classes.to(device)).float()).cpu()

        return torch.cat(in_halves(generate, noise, classes))
