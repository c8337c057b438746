"""A training step over parts of its batch, with the gradient of the whole batch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kit.ground._torch import BatchNorm
from kit.safeguards.memory.batches import count_samples, split
from kit.safeguards.patching import replaced
from kit.task import as_task

Step = Callable[..., Any]  # a module's `training_step`
Terms = Callable[[Any], tuple[Tensor, Tensor]]  # a task's `loss_terms`: sums and divisors, Float[J] both
Parameters = Sequence[nn.Parameter]


def step_in_parts(
    trainer: L.Trainer, pl_module: L.LightningModule, step: Step, arguments: Any, parts: int, parameters: Parameters
) -> Tensor:
    """Return the loss that a training step would return. What else the step returns is left out.

    A module without `loss_terms` logs once for each part, so the value that is logged for a step is that of the last.

    Args:
        step: the training step.
        arguments: its arguments, of which the first is the batch.
        parts: the number of parts into which the batch is divided.
        parameters: those to compute gradients of.
    """
    batch, *others = arguments
    # Only the precision plugin for fp16 has a scaler.
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    sum_up = partial(add_up, parts=parts, parameters=trained, scaler=scaler)

    def loss_of(part: Any) -> Tensor:
        output = step(part, *others)
        return output["loss"] if isinstance(output, dict) else output

    def mean_terms(part: Any) -> tuple[Tensor, Tensor]:
        samples, loss = count_samples(part), loss_of(part)
        return loss.reshape(1) * samples, loss.new_full((1,), samples)

    task: Any = as_task(pl_module)
    with slower_norms(pl_module, parts):
        if task.has("loss_terms"):
            with replaced(pl_module, "loss_terms", partial(sum_up, task.loss_terms)):
                return loss_of(batch)
        sums, weights = sum_up(mean_terms, batch)  # the mean over the samples
        return (sums / weights).sum()


def add_up(
    terms: Terms, batch: Any, parts: int, parameters: Parameters, scaler: torch.amp.GradScaler | None
) -> tuple[Tensor, Tensor]:
    """Return what `terms(batch)` would return, with the memory of one part. The gradients are computed on the way.

    Each of several terms takes a backward pass of its own, since the number by which its sum is divided is known only
    at the end.

    Args:
        terms: returns, for a part, the sums of its losses and what each is to be divided by, Float[J] both.
        parts: the number of parts into which the batch is divided.
        parameters: those to compute gradients of.
        scaler: the loss scaler of fp16, so that small gradients do not vanish on the way.
    """
    sums: list[Tensor] = []
    weights: list[Tensor] = []
    gradients: list[list[Tensor | None]] = []
    seeds = torch.empty(0)
    for part in split(batch, parts):
        total, weight = terms(part)
        if not gradients:
            # As large as for the mean over the whole batch, so that they fit into the range of 16-bit numbers.
            seeds = 1 / (parts * weight.detach().where(weight > 0, 1)).to(total.dtype)
            seeds = seeds if scaler is None else scaler.scale(seeds)
            gradients = [[None] * len(parameters) for _ in total]
        for j, of_term in enumerate(gradients):
            if parameters and total.requires_grad:
                keep_graph = j + 1 < len(gradients)
                new = torch.autograd.grad(total[j], parameters, seeds[j], retain_graph=keep_graph, allow_unused=True)
                for i, gradient in enumerate(new):
                    of_term[i] = _sum((of_term[i], gradient))
        sums.append(total.detach())
        weights.append(weight.detach())
        del total  # otherwise its graph would stay in memory during the next part
    whole = torch.stack(sums).sum(0)
    return _KnownGradients.apply(whole, seeds, gradients, *parameters), torch.stack(weights).sum(0)


def _sum(gradients: Sequence[Tensor | None]) -> Tensor | None:
    """Return the sum of those gradients that are not None; None if there are none."""
    known = [gradient for gradient in gradients if gradient is not None]
    return sum(known[1:], known[0]) if known else None


class _KnownGradients(torch.autograd.Function):
    """Sums of losses, Float[J], whose gradients are known already.

    `gradients[j][i]` is the gradient of the j-th sum with respect to the i-th parameter, times `seeds[j]`. For gradient
    clipping, loss scalers and the hooks of distributed training, the sums are like any other loss.
    """

    @staticmethod
    def forward(ctx, sums, seeds, gradients, *parameters):
        ctx.factors, ctx.gradients = 1 / seeds, gradients
        return sums.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, outer):
        factors = outer * ctx.factors
        return (
            None,
            None,
            None,
            *(
                _sum([None if g is None else g * factor.to(g.dtype) for g, factor in zip(of_one, factors, strict=True)])
                for of_one in zip(*ctx.gradients, strict=True)
            ),
        )


@contextmanager
def slower_norms(module: nn.Module, parts: int) -> Iterator[None]:
    """Let the running statistics of batch normalisation move in `parts` steps about as far as in one step."""
    moving = [(norm, norm.momentum) for norm in training_norms(module) if norm.momentum is not None]
    for norm, momentum in moving:
        norm.momentum = 1 - (1 - momentum) ** (1 / parts)
    try:
        yield
    finally:
        for norm, momentum in moving:
            norm.momentum = momentum


def training_norms(module: nn.Module) -> list[BatchNorm]:
    """Return the layers whose output for a sample depends on the other samples of its batch."""
    return [norm for norm in module.modules() if isinstance(norm, BatchNorm) and norm.training]
