"""Divide a batch into parts, and compute a training step in parts, with the gradient of the whole batch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kit.data import Batch
from kit.ground._lightning import loss_scaler
from kit.ground._torch import BatchNorm
from kit.ground.memory import DoesNotFit
from kit.task import as_task


def count_samples(batch: Any) -> int:
    """Return the number of samples in a batch: a `kit.data.Batch`, or a list or tuple of tensors of equal length.

    Raises:
        DoesNotFit: the batch has another structure, and so cannot be divided.
    """
    if isinstance(batch, Batch):
        return len(batch.keys)
    fields = batch if isinstance(batch, (list, tuple)) else ()
    lengths = {len(field) if isinstance(field, Tensor) and field.ndim else None for field in fields}
    length = lengths.pop() if len(lengths) == 1 else None
    if length is None:
        what = f"a batch of type {type(batch).__name__}, with anything but tensors of equal length, cannot be divided"
        raise DoesNotFit(f"out of memory, and {what}: lower data.batch_size")
    return length


def divide(batch: Any, parts: int) -> list[Any]:
    """Divide a batch into parts of nearly equal size. Each part has the structure of the batch.

    Raises:
        DoesNotFit: see `count_samples`.
    """
    samples = count_samples(batch)
    edges = [samples * i // parts for i in range(parts + 1)]
    make = getattr(type(batch), "_make", type(batch))  # a named tuple takes its fields one by one
    return [make([field[start:end] for field in batch]) for start, end in pairwise(edges)]


Step = Callable[..., Any]  # a module's `training_step`
LossTerms = Callable[[Any], tuple[Tensor, Tensor]]  # `kit.task.Task.loss_terms`
Parameters = Sequence[nn.Parameter]


def step_in_parts(
    trainer: L.Trainer, pl_module: L.LightningModule, step: Step, arguments: Any, parts: int, parameters: Parameters
) -> Tensor:
    """Return the loss of a training step, Float[], and compute it and its gradients part by part.

    A module without `loss_terms` logs its values once for each part, so the last part's values are shown.

    Args:
        step: the module's `training_step`.
        arguments: the arguments of the training step. The first one is the batch.
        parts: the number of parts.
        parameters: the parameters whose gradients are computed, unless they are frozen.
    """
    batch, *others = arguments
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    add_up_parts = partial(add_up, parts=parts, parameters=trained, scaler=loss_scaler(trainer))

    def loss_of(part: Any) -> Tensor:
        output = step(part, *others)
        return output["loss"] if isinstance(output, dict) else output

    def mean_terms(part: Any) -> tuple[Tensor, Tensor]:
        """Return the summed loss and its divisor, Float[1] both, if the loss is a mean over the samples."""
        samples, loss = count_samples(part), loss_of(part)
        return loss.reshape(1) * samples, loss.new_full((1,), samples)

    task: Any = as_task(pl_module)
    if task.has("loss_terms"):
        with replace_method(pl_module, "loss_terms", partial(add_up_parts, task.loss_terms)):
            return loss_of(batch)
    sums, divisors = add_up_parts(mean_terms, batch)
    return (sums / divisors).sum()


def add_up(loss_terms: LossTerms, batch: Any, parts: int, parameters: Parameters, scaler: Any) -> tuple[Tensor, Tensor]:
    """Return the sums of J losses over a batch and their divisors, Float[J] both, computed part by part.

    The function also computes the gradients of each part, so that only one part's activations are in memory. The J
    sums have separate backward passes, since their divisors are known only after the last part.

    Args:
        loss_terms: returns the sums and the divisors of a part of the batch.
        batch: the batch.
        parts: the number of parts.
        parameters: the parameters whose gradients are computed.
        scaler: the loss scaler of fp16, which keeps small gradients from becoming 0, or None.
    """
    sums: list[Tensor] = []
    divisors: list[Tensor] = []
    gradients: list[list[Tensor | None]] = []  # for each of the J sums, the gradient of each parameter so far
    scales = torch.empty(0)
    for part in divide(batch, parts):
        losses, divisor = loss_terms(part)  # Float[J] both
        if not gradients:
            # Scale the gradients about as in a mean over the whole batch, to stay in the range of 16-bit numbers.
            scales = 1 / (parts * divisor.detach().where(divisor > 0, 1)).to(losses.dtype)
            scales = scales if scaler is None else scaler.scale(scales)
            gradients = [[None] * len(parameters) for _ in losses]
        for j, totals in enumerate(gradients):
            if parameters and losses.requires_grad:
                options: Any = {"retain_graph": j + 1 < len(gradients), "allow_unused": True}
                for i, gradient in enumerate(torch.autograd.grad(losses[j], parameters, scales[j], **options)):
                    totals[i] = _sum((totals[i], gradient))  # one by one, to save memory
        sums.append(losses.detach())
        divisors.append(divisor.detach())
        del losses  # frees this part's graph before the next part
    total = torch.stack(sums).sum(0)
    return _KnownGradients.apply(total, scales, gradients, *parameters), torch.stack(divisors).sum(0)


def _sum(gradients: Sequence[Tensor | None]) -> Tensor | None:
    """Return the sum of the gradients that are not None, or None if there are none."""
    summands = [gradient for gradient in gradients if gradient is not None]
    return sum(summands[1:], summands[0]) if summands else None


class _KnownGradients(torch.autograd.Function):
    """Return sums of losses, Float[J], that pass on known gradients in their backward pass.

    `gradients[j][i]` is the gradient of sum j with respect to parameter i, times `scales[j]`; None stands for 0.
    Gradient clipping, loss scalers and distributed training treat the sums like any other loss.
    """

    @staticmethod
    def forward(ctx, sums, scales, gradients, *parameters):
        ctx.factors, ctx.gradients = 1 / scales, gradients
        return sums.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        factors = grad_output * ctx.factors
        totals = (
            _sum([None if g is None else g * f.to(g.dtype) for g, f in zip(of_parameter, factors, strict=True)])
            for of_parameter in zip(*ctx.gradients, strict=True)
        )
        return None, None, None, *totals


@contextmanager
def replace_method(instance: Any, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
    """Replace a method of an object until the context ends, since Lightning has no hook around it."""
    earlier_replacement = vars(instance).get(name)
    setattr(instance, name, replacement)
    try:
        yield
    finally:
        vars(instance).pop(name, None)
        if earlier_replacement is not None:
            setattr(instance, name, earlier_replacement)


def batch_norms_in_training(module: nn.Module) -> list[BatchNorm]:
    """Return the batch normalisation layers that are in training mode."""
    return [norm for norm in module.modules() if isinstance(norm, BatchNorm) and norm.training]
