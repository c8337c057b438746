"""The callback that continues with parts of a batch if the batch does not fit into memory."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial, wraps
from itertools import chain
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kit.data import Batch
from kit.ground.out_of_memory import SampleLimit, in_halves
from kit.safeguards.memory.training import GuardedTraining
from kit.safeguards.messages import log_text
from kit.safeguards.patching import replace_method
from kit.task import as_task

NO_LIMIT = 2**62  # the number that a process without a limit sends to the other processes


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
    stores the size in the checkpoints. A resumed run uses this size if its device has the same memory.

    Two things differ from a step that fits. Batch normalisation computes its statistics over a micro-batch, and updates
    its running statistics in the failed attempt as well. Dropout draws new random numbers.

    If memory runs out in the backward pass, only the gradients that are still missing are computed again.

    With DDP, each process finds its own size. From the next epoch on, all processes use the smallest size.

    Limits: Training is not guarded with manual optimization, with synchronised batch normalisation, or with strategies
    that divide the model. A task with several loss terms needs a net that is not compiled, since each term has its own
    backward pass. The images of the whole batch must always fit.

    Args:
        enabled: whether to use this guard.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.limits = {"training": SampleLimit(), "evaluation": SampleLimit()}
        self._device = torch.device("cpu")
        self._replacements = ExitStack()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._device = trainer.strategy.root_device
        if self.enabled and as_task(pl_module).has("evaluate"):
            self._replace(pl_module, "evaluate", partial(self._evaluate, trainer))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.enabled:
            return
        if why := _why_not_guarded(trainer, pl_module):
            if trainer.is_global_zero:
                print(f"memory_guard: training is not guarded ({why})")
            return
        announce = partial(self._announce, trainer, "training")
        training = GuardedTraining(pl_module, self.limits["training"], announce)
        self._replace(pl_module, "training_step", training.training_step)
        self._replace(trainer.strategy, "backward", training.backward)

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
        return {"sizes": {name: limit.size for name, limit in self.limits.items()}, "memory": self._gpu_memory()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["memory"] == self._gpu_memory():  # the sizes are valid only for the same memory
            for name, size in state_dict["sizes"].items():
                self.limits[name].size = size

    def _gpu_memory(self) -> int:
        """Return the GPU's memory in bytes, or 0 on a CPU, where torch never raises `OutOfMemoryError`."""
        return torch.cuda.get_device_properties(self._device).total_memory if self._device.type == "cuda" else 0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give all processes the smallest limits of any process."""
        if self.enabled and trainer.world_size > 1:
            sizes = torch.tensor([limit.size or NO_LIMIT for limit in self.limits.values()], device=self._device)
            smallest = trainer.strategy.reduce(sizes, reduce_op="min").tolist()
            for limit, size in zip(self.limits.values(), smallest, strict=True):
                limit.size = size if size < NO_LIMIT else None

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
            log_text(trainer, "memory_guard", message)

    def _evaluate(self, trainer: L.Trainer, evaluate: Callable[[Batch], Any], batch: Batch) -> Any:
        """Return the outputs of `evaluate` for a batch, which it gets in parts if memory runs out."""
        limit = self.limits["evaluation"]
        size_before = limit.size
        outputs = in_halves(lambda *fields: evaluate(Batch(*fields)), *batch, limit=limit)
        if limit.size != size_before:
            self._announce(trainer, "evaluation", f"with {limit.size} samples at a time")
        if len(outputs) == 1:
            return outputs[0]
        return torch.cat(outputs) if isinstance(outputs[0], Tensor) else list(chain.from_iterable(outputs))


def _why_not_guarded(trainer: L.Trainer, pl_module: L.LightningModule) -> str:
    """Return why training cannot be guarded; "" if it can."""
    if not pl_module.automatic_optimization:
        return "manual optimization"
    if trainer.strategy.model is not pl_module and not isinstance(trainer.strategy.model, DistributedDataParallel):
        return f"{type(trainer.strategy).__name__} divides the model"
    if trainer.world_size > 1 and any(isinstance(module, nn.SyncBatchNorm) for module in pl_module.modules()):
        return "synchronised batch normalisation"
    return ""
