"""Flow matching along straight paths (Lipman et al. 2023, Flow Matching for Generative Modeling; Liu et al. 2023).

At time 0 there is noise, at time 1 an image, in between x = (1 - t) noise + t image, whose velocity is image - noise.
A net learns the velocity; from noise, a solver then follows it to an image.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kit.ground.errors import UserError
from kit.ground.out_of_memory import in_halves
from kit.samples.pictures import pixels

Velocity = Callable[[Tensor, float], Tensor]  # of Float[B C H W] at a time


class Flow(NamedTuple):
    """What the net learns of a batch: places on the way from noise to images.

    places: Float[B C H W].
    times: Float[B], from 0 at the noise to 1 at the image.
    classes: Long[B]; K is "any".
    velocities: Float[B C H W].
    """

    places: Tensor
    times: Tensor
    classes: Tensor
    velocities: Tensor


def on_the_way(images: Tensor, start: Tensor, times: Tensor, classes: Tensor) -> Flow:
    """From noise `start` to images, Float[B C H W] both, along straight lines, so far as the times say."""
    share = times.view(-1, 1, 1, 1)
    places = (1 - share) * start + share * images
    return Flow(places.contiguous(memory_format=torch.channels_last), times, classes, images - start)


def guided(net: Callable[[Tensor, Tensor, Tensor], Tensor], classes: Tensor, of_any: int, guidance: float) -> Velocity:
    """The velocity that a net says for images of classes, Long[B], and beyond it, away from those of any class
    (classifier-free guidance, Ho and Salimans 2021).

    Args:
        of_any: the class that stands for any.
        guidance: how far: 1 leaves the velocity as it is.
    """

    def velocity(places: Tensor, time: float) -> Tensor:
        places = places.contiguous(memory_format=torch.channels_last)
        times = torch.full_like(classes, time, dtype=places.dtype)
        of_class = net(places, times, classes)
        if guidance == 1:
            return of_class
        of_all = net(places, times, torch.full_like(classes, of_any))
        return of_all + guidance * (of_class - of_all)

    return velocity


class Solver(ABC):
    """Follows velocities from noise to images, in steps of equal length from time 0 to 1.

    Args:
        steps: how many.
        churn: by what share the noise is raised before each step but the first, with fresh noise: 0 for none. It mends
            errors of earlier steps, at no cost (Karras et al. 2022, Elucidating the Design Space of Diffusion-Based
            Generative Models, algorithm 2: gamma, at most 0.41 there).

    Raises:
        UserError: there is no step, or churn is below 0.
    """

    def __init__(self, steps: int, churn: float = 0.0) -> None:
        if steps < 1:
            raise UserError(f"steps is {steps}, but must be above 0")
        if not 0 <= churn < math.inf:
            raise UserError(f"churn is {churn}, but must be at least 0, such as 0.2")
        self.steps, self.churn = steps, churn

    @property
    def noises(self) -> int:
        """How many images of noise it takes for one sample: N."""
        return self.steps if self.churn else 1

    def __call__(self, velocity: Velocity, noise: Tensor) -> Tensor:
        """Float[B N C H W], normally distributed, to images Float[B C H W]."""
        x, time = noise[:, 0], 0.0
        for number in range(self.steps):
            if number and self.churn:
                x, time = churned(x, time, self.churn, noise[:, number])
            end = (number + 1) / self.steps
            x = x + (end - time) * self.slope(velocity, x, time, end)
            time = end
        return x

    def changed(self, name: str | None = None, steps: int | None = None, churn: float | None = None) -> "Solver":
        """Return a solver like this one with what is given instead: `euler` or `heun`, steps, churn."""
        kind = {"euler": Euler, "heun": Heun, None: type(self)}[name]
        return kind(self.steps if steps is None else steps, self.churn if churn is None else churn)

    @abstractmethod
    def slope(self, velocity: Velocity, x: Tensor, time: float, end: float) -> Tensor:
        """Along which a step from time to end is taken."""


def churned(x: Tensor, time: float, churn: float, fresh: Tensor) -> tuple[Tensor, float]:
    """A place on the way, Float[B C H W], put back to where there is more noise, by that share; and the time there.

    At time t there are t of the image and 1 - t of noise, so that noise is (1 - t) / t as large as the image.
    """
    before = time / (time + (1 + churn) * (1 - time))
    share = before / time  # of x that is left
    missing = (1 - before) ** 2 - (share * (1 - time)) ** 2  # variances add up
    return share * x + math.sqrt(missing) * fresh, before


class Euler(Solver):
    """Each step in the direction at its beginning."""

    def __init__(self, steps: int = 20, churn: float = 0.0) -> None:
        super().__init__(steps, churn)

    def slope(self, velocity: Velocity, x: Tensor, time: float, end: float) -> Tensor:
        return velocity(x, time)


class Heun(Solver):
    """Each step in the mean of the directions at its beginning and at where that leads: twice the work of Euler's."""

    def __init__(self, steps: int = 10, churn: float = 0.0) -> None:
        super().__init__(steps, churn)

    def slope(self, velocity: Velocity, x: Tensor, time: float, end: float) -> Tensor:
        first = velocity(x, time)
        return (first + velocity(x + (end - time) * first, end)) / 2


class Sampler(nn.Module):
    """Makes images, Float[B C H W], out of noise, Float[B N C H W] (N: the solver's `noises`), and classes, Long[B].

    Args:
        net: says velocities.
        of_any, guidance: as for `guided`.
        solver: follows them.
    """

    def __init__(self, net: nn.Module, of_any: int, solver: Solver, guidance: float) -> None:
        super().__init__()
        self.net, self.of_any, self.solver, self.guidance = net, of_any, solver, guidance

    def forward(self, noise: Tensor, classes: Tensor) -> Tensor:
        return self.solver(guided(self.net, classes, self.of_any, self.guidance), noise)

    @torch.no_grad()
    def images(self, noise: Tensor, classes: Tensor, device: torch.device) -> Tensor:
        """Return images, uint8 [B C H W] on the CPU; made on a device, in parts if it has too little memory."""

        def make(noise: Tensor, classes: Tensor) -> Tensor:
            return pixels(self(noise.to(device), classes.to(device)).float()).cpu()

        return torch.cat(in_halves(make, noise, classes))
