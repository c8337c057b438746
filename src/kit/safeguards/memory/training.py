"""Divide training steps once memory has run out."""

from collections.abc import Callable
from math import ceil
from typing import Any

import lightning as L
import torch
from torch import Tensor

from kit.ground._torch import version_of
from kit.ground.out_of_memory import SampleLimit
from kit.safeguards.memory.batches import count_samples
from kit.safeguards.memory.micro_batches import Parameters, Step, batch_norms_in_training, step_in_parts
from kit.safeguards.patching import replace_method
from kit.task import as_task


class GuardedTraining:
    """Replacements for a module's `training_step` and its strategy's `backward`.

    Both take the original method as their first argument.

    Args:
        limit: the largest number of samples in a micro-batch.
        announce: called with a description of the micro-batches when the limit has changed.
    """

    def __init__(self, pl_module: L.LightningModule, limit: SampleLimit, announce: Callable[[str], None]) -> None:
        self.trainer, self.pl_module, self.limit, self.announce = pl_module.trainer, pl_module, limit, announce
        self.step: Step = pl_module.training_step  # the original method
        self.parameters = list(pl_module.parameters())
        self.arguments: tuple[Any, ...] = ()  # those of the latest training step, until its backward pass succeeds

    def training_step(self, original: Step, *args: Any) -> Any:
        self.arguments = args
        return self._compute(self.parameters, self.limit.size)

    def backward(self, original: Callable[..., Any], loss: Tensor, *args: Any) -> Tensor:
        versions_before, size_before = _gradient_versions(self.parameters), self.limit.size
        try:
            loss = original(loss, *args)
            self.arguments = ()
            return loss
        except torch.OutOfMemoryError as error:
            message = str(error)
        loss.detach_()  # frees the activations, to which Lightning keeps a reference through the loss
        # The backward pass may have written some of the gradients before memory ran out. Compute only the others again.
        versions = zip(self.parameters, versions_before, _gradient_versions(self.parameters), strict=True)
        without_new_gradient = [parameter for parameter, before, after in versions if before == after]
        self._halve(message)
        with replace_method(self.pl_module, "log", _log_nothing), self.trainer.precision_plugin.train_step_context():
            loss = self._compute(without_new_gradient, size_before)
        return original(loss / self.trainer.accumulate_grad_batches, *args)

    def _compute(self, parameters: Parameters, size_before: int | None) -> Any:
        """Return the result of the training step. Each time memory runs out, divide the step into more parts.

        Args:
            parameters: the parameters whose gradients are computed if there are several parts.
            size_before: the limit at the start of this step, which shows whether to announce a new one.
        """
        while True:
            parts = 1 if self.limit.size is None else self.limit.parts(count_samples(self.arguments[0]))
            try:
                if parts == 1:
                    result = self.step(*self.arguments)
                else:
                    result = step_in_parts(self.trainer, self.pl_module, self.step, self.arguments, parts, parameters)
                break
            except torch.OutOfMemoryError as error:
                message = str(error)
            self._halve(message)
        if self.limit.size != size_before:
            self.announce(f"in micro-batches of {self.limit.size}, {_describe_gradient(self.pl_module)}")
        return result

    def _halve(self, torch_message: str) -> None:
        """Set the limit to half of the number of samples that did not fit. See `SampleLimit.halve`."""
        samples = count_samples(self.arguments[0])
        self.limit.halve(ceil(samples / self.limit.parts(samples)), self.arguments[0], torch_message)


def _gradient_versions(parameters: Parameters) -> list[int]:
    """Return the number of writes to each parameter's gradient, or -1 for a parameter without a gradient."""
    return [-1 if parameter.grad is None else version_of(parameter.grad) for parameter in parameters]


def _describe_gradient(pl_module: L.LightningModule) -> str:
    """Describe how close the gradient of the micro-batches is to the gradient of the whole batch."""
    task = as_task(pl_module)
    message = "with the gradient of the whole batch"
    if not task.has("loss_terms"):
        message += " if the loss is a mean over its samples"
    elif not task.additive:
        message = "with a gradient close to that of the whole batch: the losses of the parts do not add up exactly"
    return f"{message}; batch normalisation uses a micro-batch" if batch_norms_in_training(pl_module) else message


def _log_nothing(*_: Any, **__: Any) -> None:
    """Stand in for `LightningModule.log` when a step is repeated."""
