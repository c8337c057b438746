"""A training step over parts of its batch, with the gradient of the whole."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kit.ground._torch import BatchNorm
from kit.safeguards.memory.parts import Logs, count, split
from kit.safeguards.patching import replaced
from kit.task import as_task


def step_in_parts(
    trainer: L.Trainer,
    pl_module: L.LightningModule,
    method: Callable[..., Any],
    arguments: Sequence[Any],
    parts: int,
    parameters: Sequence[nn.Parameter],
) -> Tensor | None:
    """The loss that `method(*arguments)`, a training step, would return (what else it returns is left out).

    Args:
        arguments: the first is the batch.
        parameters: to which gradients go.
    """
    batch, *others = arguments
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    task: Any = as_task(pl_module)
    own_terms = task.loss_terms if task.has("loss_terms") else None
    with slower_norms(pl_module, parts):
        if own_terms is not None:
            terms = partial(add_up, own_terms, parts=parts, parameters=parameters, scaler=scaler)
            with replaced(pl_module, "loss_terms", terms):
                output = method(batch, *others)
            return output["loss"] if isinstance(output, dict) else output
        logs, taken = Logs(), []

        def terms_of_mean(part: Any) -> tuple[Tensor, Tensor]:
            output = method(part, *others)
            loss = output["loss"] if isinstance(output, dict) else output
            samples = count(part)
            logs.keep(samples)
            if loss is None:
                return torch.zeros(1, device=pl_module.device), torch.zeros(1, device=pl_module.device)
            taken.append(samples)
            return loss.reshape(1) * samples, loss.new_full((1,), samples)

        with replaced(pl_module, "log", logs.take):
            sums, weights = add_up(terms_of_mean, batch, parts, parameters, scaler)
        logs.log(pl_module)
        return (sums / weights).sum() if taken else None


def add_up(
    terms: Callable[[Any], tuple[Tensor, Tensor]],
    batch: Any,
    parts: int,
    parameters: Sequence[nn.Parameter],
    scaler: torch.amp.GradScaler | None,
) -> tuple[Tensor, Tensor]:
    """What `terms(batch)` would return, with the memory of a part; its gradients have been computed when it returns.

    Several terms take a backward pass each, since what their sums are divided by is known only at the end.

    Args:
        terms: of a part, the sums of its losses and what each is to be divided by, Float[J] both, adding up.
        parameters: for which gradients are wanted.
        scaler: fp16's: small gradients must not vanish on the way.
    """
    sums: list[Tensor] = []
    weights: list[Tensor] = []
    gradients: list[list[Tensor | None]] = []
    seeds = torch.empty(0)
    for part in split(batch, parts):
        total, weight = terms(part)
        if not gradients:
            # As large as they would be for the whole batch's mean, for numbers of 16 bits.
            seeds = 1 / (parts * weight.detach().where(weight > 0, 1)).to(total.dtype)
            seeds = seeds if scaler is None else scaler.scale(seeds)
            gradients = [[None] * len(parameters) for _ in total]
        for j, of_term in enumerate(gradients):
            if parameters and total.requires_grad:
                again = j + 1 < len(gradients)
                new = torch.autograd.grad(total[j], parameters, seeds[j], retain_graph=again, allow_unused=True)
                for i, gradient in enumerate(new):
                    known = of_term[i]
                    of_term[i] = gradient if known is None else known if gradient is None else known + gradient
        sums.append(total.detach())
        weights.append(weight.detach())
        del total  # else its graph would lie in memory beside the next one's
    whole = torch.stack(sums).sum(0)
    return _Known.apply(whole, seeds, gradients, *parameters), torch.stack(weights).sum(0)


class _Known(torch.autograd.Function):
    """Sums, Float[J], whose gradients are known already: `gradients[j][i]` is that of the i-th parameter, times
    `seeds[j]`. To whoever goes back through it (clipping, a loss scaler, the hooks of distributed training) it is a
    loss like any other."""

    @staticmethod
    def forward(ctx, sums, seeds, gradients, *parameters):
        ctx.factors, ctx.gradients = 1 / seeds, gradients
        return sums.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, outer):
        factors = outer * ctx.factors
        found: list[Tensor | None] = []
        for of_parameter in zip(*ctx.gradients, strict=True):
            some = [g * factor.to(g.dtype) for g, factor in zip(of_parameter, factors, strict=True) if g is not None]
            found.append(sum(some[1:], some[0]) if some else None)
        return None, None, None, *found


@contextmanager
def slower_norms(module: nn.Module, parts: int) -> Iterator[None]:
    """Batch normalisation's running statistics move in `parts` steps about as far as they would have in one."""
    moving = [(norm, norm.momentum) for norm in training_norms(module) if norm.momentum is not None]
    for norm, momentum in moving:
        norm.momentum = 1 - (1 - momentum) ** (1 / parts)
    try:
        yield
    finally:
        for norm, momentum in moving:
            norm.momentum = momentum


def training_norms(module: nn.Module) -> list[BatchNorm]:
    """The layers whose output for a sample depends on the others of its batch."""
    return [norm for norm in module.modules() if isinstance(norm, BatchNorm) and norm.training]
