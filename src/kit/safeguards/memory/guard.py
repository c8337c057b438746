"""The callback that continues with parts of a batch if the batch does not fit into memory."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial, wraps
from itertools import chain
from math import ceil
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kit.data import Batch
from kit.ground._torch import version_of
from kit.ground.memory import SampleLimit, in_halves
from kit.safeguards.memory.micro_batches import batch_norms_in_training, count_samples, replace_method, step_in_parts
from kit.safeguards.messages import log_text
from kit.task import as_task


class MemoryGuard(L.Callback):
    """Divide a batch that does not fit into the GPU's memory into micro-batches that fit.

    The optimizer still makes one step with the gradient of the whole batch. Gradient clipping, accumulation, the loss
    scaler and distributed training see that gradient as usual. How the losses of the micro-batches add up depends on
    the module:

    - A `kit.task.Task` returns sums and divisors from `loss_terms`. They add up exactly, unless the task's attribute
      `additive` is False.
    - The loss of any other module is assumed to be a mean over the samples.

    In validation and test, the guard calls `evaluate` of a `kit.task.Task` for parts of a batch. It does not divide the
    validation of any other module.

    The guard changes nothing until memory runs out. Then it halves the micro-batch until it fits, prints a line, and
    stores the size in the checkpoints. A resumed run uses this size if its GPU has the same amount of memory.

    Two things differ from a step that fits. Batch normalisation computes its statistics over a micro-batch, and updates
    its running statistics in the failed attempt as well. Dropout, mixing and pasting draw new random numbers.

    If memory runs out in the backward pass, only the gradients that are still missing are computed again. With DDP,
    each process finds its own size.

    Limits: Training is not guarded with manual optimization, with synchronised batch normalisation, or with strategies
    that divide the model. A task with several loss terms needs a net that is not compiled, since each term has its own
    backward pass. The images of the whole batch must always fit.

    Args:
        enabled: whether to use this guard.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.limits = {"training": SampleLimit(), "evaluation": SampleLimit()}
        self._replacements = ExitStack()
        self._parameters: list[nn.Parameter] = []
        self._step: Any = None  # the module's own `training_step`
        self._arguments: tuple[Any, ...] = ()  # of the latest training step; empty after its backward pass

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self.enabled and as_task(pl_module).has("evaluate"):
            self._replace(pl_module, "evaluate", partial(self._evaluate, trainer))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.enabled:
            return
        if why := _why_not_guarded(trainer, pl_module):
            if trainer.is_global_zero:
                print(f"memory_guard: training is not guarded ({why})")
            return
        self._parameters, self._step = list(pl_module.parameters()), pl_module.training_step
        self._replace(pl_module, "training_step", partial(self._training_step, pl_module))
        self._replace(trainer.strategy, "backward", partial(self._backward, pl_module))

    def _replace(self, instance: Any, name: str, replacement: Callable[..., Any]) -> None:
        """Make `instance.NAME(...)` call `replacement(method, ...)`, where `method` is the original method."""
        method = getattr(instance, name)

        @wraps(method)  # Lightning inspects the method's arguments
        def wrapper(*args: Any) -> Any:
            return replacement(method, *args)

        self._replacements.enter_context(replace_method(instance, name, wrapper))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._replacements.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._replacements.close()

    def state_dict(self) -> dict[str, Any]:
        return {"sizes": {name: limit.size for name, limit in self.limits.items()}, "memory": _gpu_memory()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["memory"] == _gpu_memory():  # the sizes are valid only for the same memory
            for name, size in state_dict["sizes"].items():
                self.limits[name].size = size

    def _announce(self, trainer: L.Trainer, stage: str, ending: str) -> None:
        """Print how training or evaluation continues. The first process also writes it to TensorBoard.

        Args:
            stage: `training` or `evaluation`.
            ending: the end of the message, such as "with 16 samples at a time".
        """
        process = f" of process {trainer.global_rank}" if trainer.world_size > 1 else ""
        message = f"memory_guard: out of memory; {stage}{process} continues {ending}"
        print(message, flush=True)
        if trainer.is_global_zero:
            log_text(trainer, "safeguards/memory_guard", message)

    def _training_step(self, pl_module: L.LightningModule, step: Callable[..., Any], *args: Any) -> Any:
        """Return the result of the module's `training_step`, which is computed in parts if the batch does not fit."""
        self._arguments = args
        return self._compute(pl_module, self._parameters, self.limits["training"].size)

    def _backward(self, pl_module: L.LightningModule, backward: Callable[..., Any], loss: Tensor, *args: Any) -> Tensor:
        """Compute gradients as the strategy's `backward` does. If memory runs out, compute the missing ones in parts.

        Args:
            backward: the strategy's own `backward`.
            loss: the result of the training step, divided by the number of accumulated batches.
        """
        versions_before, size_before = _gradient_versions(self._parameters), self.limits["training"].size
        try:
            loss = backward(loss, *args)
            self._arguments = ()
            return loss
        except torch.OutOfMemoryError as error:
            message = str(error)
        loss.detach_()  # frees the activations, to which Lightning keeps a reference through the loss
        # The backward pass may have written some of the gradients before memory ran out. Compute only the others again.
        versions = zip(self._parameters, versions_before, _gradient_versions(self._parameters), strict=True)
        remaining = [parameter for parameter, before, after in versions if before == after]
        self._halve(message)
        precision = pl_module.trainer.precision_plugin
        with replace_method(pl_module, "log", lambda *_, **__: None), precision.train_step_context():
            loss = self._compute(pl_module, remaining, size_before)
        return backward(loss / pl_module.trainer.accumulate_grad_batches, *args)

    def _compute(self, pl_module: L.LightningModule, parameters: list[nn.Parameter], size_before: int | None) -> Any:
        """Return the result of the training step. Each time memory runs out, divide the step into more parts.

        Args:
            parameters: the parameters whose gradients this method computes if it divides the step.
            size_before: the limit at the start of the step. If the limit has changed since then, it is announced.
        """
        limit = self.limits["training"]
        while True:
            parts = 1 if limit.size is None else limit.parts(count_samples(self._arguments[0]))
            try:
                if parts == 1:
                    result = self._step(*self._arguments)
                else:
                    result = step_in_parts(pl_module.trainer, pl_module, self._step, self._arguments, parts, parameters)
                break
            except torch.OutOfMemoryError as error:
                message = str(error)
            self._halve(message)
        if limit.size != size_before:
            ending = f"in micro-batches of {limit.size}, {_describe_gradient(pl_module)}"
            self._announce(pl_module.trainer, "training", ending)
        return result

    def _halve(self, torch_message: str) -> None:
        """Set the limit to half of the number of samples that did not fit. See `SampleLimit.halve`."""
        samples, limit = count_samples(self._arguments[0]), self.limits["training"]
        limit.halve(ceil(samples / limit.parts(samples)), torch_message)

    def _evaluate(self, trainer: L.Trainer, evaluate: Callable[[Batch], Any], batch: Batch) -> Any:
        """Return the outputs of `evaluate` for a batch. If memory runs out, call it for parts of the batch."""
        limit = self.limits["evaluation"]
        size_before = limit.size
        outputs = in_halves(lambda *fields: evaluate(Batch(*fields)), *batch, limit=limit)
        if limit.size != size_before:
            self._announce(trainer, "evaluation", f"with {limit.size} samples at a time")
        if len(outputs) == 1:
            return outputs[0]
        return torch.cat(outputs) if isinstance(outputs[0], Tensor) else list(chain.from_iterable(outputs))


def _gpu_memory() -> int:
    """Return the memory in bytes of the GPU that this process uses, or 0 if it uses none."""
    return torch.cuda.get_device_properties().total_memory if torch.cuda.is_initialized() else 0


def _why_not_guarded(trainer: L.Trainer, pl_module: L.LightningModule) -> str:
    """Return why training cannot be guarded; "" if it can."""
    if not pl_module.automatic_optimization:
        return "manual optimization"
    if trainer.strategy.model is not pl_module and not isinstance(trainer.strategy.model, DistributedDataParallel):
        return f"{type(trainer.strategy).__name__} divides the model"
    if trainer.world_size > 1 and any(isinstance(module, nn.SyncBatchNorm) for module in pl_module.modules()):
        return "synchronised batch normalisation"
    return ""


def _gradient_versions(parameters: list[nn.Parameter]) -> list[int]:
    """Return the number of writes to each parameter's gradient, or -1 for a parameter without a gradient."""
    return [-1 if parameter.grad is None else version_of(parameter.grad) for parameter in parameters]


def _describe_gradient(pl_module: L.LightningModule) -> str:
    """Describe how close the gradient of the micro-batches is to the gradient of the whole batch."""
    task = as_task(pl_module)
    message = "with the gradient of the whole batch"
    if not task.has("loss_terms"):
        message += " if the loss is a mean over its samples"
    elif not task.additive:
        message = "with nearly the gradient of the whole batch: the losses of the parts do not add up exactly"
    return f"{message}; batch normalisation uses a micro-batch" if batch_norms_in_training(pl_module) else message
