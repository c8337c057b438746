"""Continue if a batch does not fit into memory."""

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
from kit.ground.out_of_memory import DoesNotFit, SampleLimit, in_halves, shortage
from kit.safeguards.memory.training import GuardedTraining
from kit.safeguards.messages import log_text
from kit.safeguards.patching import replaced
from kit.task import as_task

NO_LIMIT = 2**62  # stands for a limit of None where processes compare their limits


class MemoryGuard(L.Callback):
    """Compute a batch that does not fit into the GPU's memory in micro-batches that fit.

    The optimizer still makes one step with the gradient of the whole batch. Gradient clipping, accumulation, the loss
    scaler and distributed training see that gradient as usual. How the losses of the parts add up depends on the
    module:

    - A `kit.task.Task` returns sums and divisors from `loss_terms`, which add up exactly unless its `additive` is
      False.
    - The loss of any other module is taken as a mean over the samples.

    `evaluate` of a `kit.task.Task` is called for parts of a batch, too. The validation of any other module is not
    divided.

    The guard changes nothing until memory runs out. Then it halves the number of samples at a time until they fit,
    prints a line, and stores the number in the checkpoints, for a resumed run on a device with the same memory. Two
    things differ from a whole batch: batch normalisation sees only a micro-batch (and once more in the step that
    failed), and dropout is drawn anew. A step that fails in its backward pass computes only the gradients that are
    still missing.

    With DDP, each process finds its own number, since processes wait for each other only when they exchange gradients.
    From the next epoch on, all use the smallest. Training is not guarded with manual optimization, nor where processes
    wait for each other in the forward pass: with synchronised batch normalisation, and with strategies that divide the
    model. Several loss terms need a net that is not compiled, since each has a backward pass of its own. The images of
    the batch have to fit in any case.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.limits = {"training": SampleLimit(), "evaluation": SampleLimit()}
        self._device = torch.device("cpu")
        self._replaced = ExitStack()

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
        training = GuardedTraining(trainer, pl_module, self.limits["training"], announce)
        self._replace(pl_module, "training_step", training.training_step)
        self._replace(trainer.strategy, "backward", training.backward)
        self._replace(pl_module, "optimizer_step", _optimizer_step)

    def _replace(self, owner: Any, name: str, replacement: Callable[..., Any]) -> None:
        """Let `owner.NAME(...)` call `replacement(method, ...)`, where `method` is the owner's method."""
        method = getattr(owner, name)  # by name, since `replaced` puts it back by name

        @wraps(method)  # Lightning looks at its arguments
        def step(*args: Any) -> Any:
            return replacement(method, *args)

        self._replaced.enter_context(replaced(owner, name, step))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._replaced.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._replaced.close()

    def state_dict(self) -> dict[str, Any]:
        return {"sizes": {name: limit.size for name, limit in self.limits.items()}, "memory": self._memory()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["memory"] == self._memory():  # on another device, another number of samples fits
            for name, size in state_dict["sizes"].items():
                self.limits[name].size = size

    def _memory(self) -> int:
        """Return the device's memory in bytes; 0 for a processor, on which torch raises no `OutOfMemoryError`."""
        return torch.cuda.get_device_properties(self._device).total_memory if self._device.type == "cuda" else 0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let all processes use the smallest limits of any of them."""
        if self.enabled and trainer.world_size > 1:
            sizes = torch.tensor([limit.size or NO_LIMIT for limit in self.limits.values()], device=self._device)
            smallest = trainer.strategy.reduce(sizes, reduce_op="min").tolist()
            for limit, size in zip(self.limits.values(), smallest, strict=True):
                limit.size = size if size < NO_LIMIT else None

    def _announce(self, trainer: L.Trainer, what: str, how: str) -> None:
        """Print how a process goes on, and show it in TensorBoard."""
        process = f" of process {trainer.global_rank}" if trainer.world_size > 1 else ""
        message = f"memory_guard: out of memory; {what}{process} goes on {how}"
        print(message, flush=True)
        if trainer.is_global_zero:
            log_text(trainer, "memory_guard", message)

    def _evaluate(self, trainer: L.Trainer, evaluate: Callable[[Batch], Any], batch: Batch) -> Any:
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


def _optimizer_step(method: Callable[..., Any], *args: Any) -> None:
    """Call the optimizer's step, which can neither be divided nor repeated, since some weights have changed."""
    try:
        method(*args)
    except torch.OutOfMemoryError as error:
        raise DoesNotFit(
            f"the optimizer's step does not fit: {shortage(str(error))}; what helps: a smaller net (model.net), or an "
            "optimizer that keeps fewer than two numbers a weight"
        ) from None
