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

from kit.ground._lightning import loss_scaler
from kit.ground._torch import BatchNorm, tree_map
from kit.ground.memory import DoesNotFit
from kit.task import as_task


def count_samples(batch: Any) -> int:
    """Return the number of samples in a batch.

    A list of tuples or dicts has one item for each sample. Any other dict, tuple or list has fields, such as images and
    targets. The number of samples is then the length of the first tensor or, if there is no tensor, of the first list.

    Raises:
        DoesNotFit: the batch has another structure, and so cannot be divided.
    """
    fields = list(batch.values()) if isinstance(batch, dict) else batch
    if isinstance(fields, Tensor) or not isinstance(fields, Sequence) or _is_list_of_samples(fields):
        fields = [fields]
    sized: list[Any] = [field for field in fields if isinstance(field, Tensor) and field.ndim]
    sized += [field for field in fields if isinstance(field, (list, tuple))]
    if not sized:
        raise _cannot_divide(f"a batch of type {type(batch).__name__} has no samples and")
    return len(sized[0])


def divide(batch: Any, parts: int) -> list[Any]:
    """Divide a batch into parts of nearly equal size. Each part has the structure of the batch.

    Tensors are divided along their first dimension. Lists with one item for each sample are divided as well. Anything
    else, such as a number or a name, is repeated in each part.

    Raises:
        DoesNotFit: the batch cannot be divided, or its structure is ambiguous.
    """
    samples = count_samples(batch)

    def has_item_per_sample(value: Any) -> bool:
        has_length = isinstance(value, (list, tuple)) and len(value) == samples
        return has_length and (value is not batch or _is_list_of_samples(batch))

    def take(part: slice, value: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim:
            if len(value) != samples:
                raise _cannot_divide(f"a tensor of {list(value.shape)} in a batch of {samples} samples")
        elif has_item_per_sample(value):
            if all(isinstance(item, Tensor) and item.ndim and len(item) == samples for item in value):
                raise _cannot_divide(f"a list of {samples} tensors of length {samples} is ambiguous and")
        elif isinstance(value, (dict, list, tuple)):  # an instance of a subclass, which `tree_map` does not enter
            raise _cannot_divide(f"a {type(value).__name__} in a batch")
        else:
            return value
        return value[part]

    edges = [samples * i // parts for i in range(parts + 1)]
    slices = [slice(*edge) for edge in pairwise(edges)]
    return [tree_map(partial(take, part), batch, is_leaf=has_item_per_sample) for part in slices]


def _is_list_of_samples(batch: Any) -> bool:
    return isinstance(batch, list) and bool(batch) and isinstance(batch[0], (tuple, dict))


def _cannot_divide(description: str) -> DoesNotFit:
    return DoesNotFit(f"out of memory, and {description} cannot be divided: lower data.batch_size")


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
    with lower_momentum(pl_module, parts):
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
    """Replace a method of an object until the context ends. Lightning has no hook that could wrap the call."""
    earlier_replacement = vars(instance).get(name)
    setattr(instance, name, replacement)
    try:
        yield
    finally:
        vars(instance).pop(name, None)
        if earlier_replacement is not None:
            setattr(instance, name, earlier_replacement)


@contextmanager
def lower_momentum(module: nn.Module, parts: int) -> Iterator[None]:
    """Lower the momentum of batch normalisation until the context ends.

    In `parts` forward passes, the running statistics then move about as far as in one pass with the whole batch.
    """
    momenta = [(norm, norm.momentum) for norm in batch_norms_in_training(module) if norm.momentum is not None]
    for norm, momentum in momenta:
        norm.momentum = 1 - (1 - momentum) ** (1 / parts)
    try:
        yield
    finally:
        for norm, momentum in momenta:
            norm.momentum = momentum


def batch_norms_in_training(module: nn.Module) -> list[BatchNorm]:
    """Return the batch normalisation layers that are in training mode."""
    return [norm for norm in module.modules() if isinstance(norm, BatchNorm) and norm.training]
