"""Compute a training step in parts, with the gradient of the whole batch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kit.ground._lightning import loss_scaler
from kit.ground._torch import BatchNorm
from kit.safeguards.memory.batches import count_samples, split
from kit.safeguards.patching import replace_method
from kit.task import as_task

Step = Callable[..., Any]  # a module's `training_step`
Terms = Callable[[Any], tuple[Tensor, Tensor]]  # a task's `loss_terms`: sums and divisors, Float[J] both
Parameters = Sequence[nn.Parameter]


def step_in_parts(
    trainer: L.Trainer, pl_module: L.LightningModule, step: Step, arguments: Any, parts: int, parameters: Parameters
) -> Tensor:
    """Return the loss of a training step, Float[], and compute it part by part.

    A module without `loss_terms` logs its values once for each part, so the last part's values are shown.

    Args:
        step: the training step.
        arguments: the arguments of the step. The first one is the batch.
        parts: the number of parts.
        parameters: the parameters that need gradients.
    """
    batch, *others = arguments
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    sum_up = partial(add_up, parts=parts, parameters=trained, scaler=loss_scaler(trainer))

    def loss_of(part: Any) -> Tensor:
        output = step(part, *others)
        return output["loss"] if isinstance(output, dict) else output

    def mean_terms(part: Any) -> tuple[Tensor, Tensor]:
        samples, loss = count_samples(part), loss_of(part)
        return loss.reshape(1) * samples, loss.new_full((1,), samples)

    task: Any = as_task(pl_module)
    with lower_momentum(pl_module, parts):
        if task.has("loss_terms"):
            with replace_method(pl_module, "loss_terms", partial(sum_up, task.loss_terms)):
                return loss_of(batch)
        sums, divisors = sum_up(mean_terms, batch)
        return (sums / divisors).sum()


def add_up(
    terms: Terms, batch: Any, parts: int, parameters: Parameters, scaler: torch.amp.GradScaler | None
) -> tuple[Tensor, Tensor]:
    """Return the sums and divisors of a batch, Float[J] both, computed part by part.

    The function also computes the gradients of each part, so that only one part's activations are in memory. The J
    sums have separate backward passes, since their divisors are known only after the last part.

    Args:
        terms: `loss_terms`, called with a part.
        parts: the number of parts.
        parameters: the parameters that need gradients.
        scaler: the loss scaler of fp16, which keeps small gradients from becoming 0.
    """
    sums: list[Tensor] = []
    divisors: list[Tensor] = []
    gradients: list[list[Tensor | None]] = []  # [J][parameters]
    scales = torch.empty(0)
    for part in split(batch, parts):
        losses, divisor = terms(part)
        if not gradients:
            # Scale the gradients about as the mean over the whole batch does, to stay in the range of 16-bit numbers.
            scales = 1 / (parts * divisor.detach().where(divisor > 0, 1)).to(losses.dtype)
            scales = scales if scaler is None else scaler.scale(scales)
            gradients = [[None] * len(parameters) for _ in losses]
        for j, totals in enumerate(gradients):
            if parameters and losses.requires_grad:
                keep_graph = j + 1 < len(gradients)
                new = torch.autograd.grad(losses[j], parameters, scales[j], retain_graph=keep_graph, allow_unused=True)
                for i, gradient in enumerate(new):  # one by one, to save memory
                    totals[i] = _sum((totals[i], gradient))
        sums.append(losses.detach())
        divisors.append(divisor.detach())
        del losses  # free its graph before the next part
    total = torch.stack(sums).sum(0)
    return _KnownGradients.apply(total, scales, gradients, *parameters), torch.stack(divisors).sum(0)


def _sum(gradients: Sequence[Tensor | None]) -> Tensor | None:
    """Return the sum of the gradients that are not None, or None if all are."""
    known = [gradient for gradient in gradients if gradient is not None]
    return sum(known[1:], known[0]) if known else None


class _KnownGradients(torch.autograd.Function):
    """Return sums of losses, Float[J], that pass on known gradients in their backward pass.

    `gradients[j][i]` is the gradient of sum j with respect to parameter i, times `scales[j]`. Gradient clipping, loss
    scalers and distributed training treat the sums like any other loss.
    """

    @staticmethod
    def forward(ctx, sums, scales, gradients, *parameters):
        ctx.factors, ctx.gradients = 1 / scales, gradients
        return sums.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, outer):
        factors = outer * ctx.factors
        totals = (
            _sum([None if g is None else g * factor.to(g.dtype) for g, factor in zip(per_sum, factors, strict=True)])
            for per_sum in zip(*ctx.gradients, strict=True)
        )
        return None, None, None, *totals


@contextmanager
def lower_momentum(module: nn.Module, parts: int) -> Iterator[None]:
    """Lower the momentum of batch normalisation, so that its running statistics move about as far as in one step."""
    moving = [(norm, norm.momentum) for norm in batch_norms_in_training(module) if norm.momentum is not None]
    for norm, momentum in moving:
        norm.momentum = 1 - (1 - momentum) ** (1 / parts)
    try:
        yield
    finally:
        for norm, momentum in moving:
            norm.momentum = momentum


def batch_norms_in_training(module: nn.Module) -> list[BatchNorm]:
    """Return the batch normalisation layers that are in training mode."""
    return [norm for norm in module.modules() if isinstance(norm, BatchNorm) and norm.training]
