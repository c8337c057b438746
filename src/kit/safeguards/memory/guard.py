"""Going on where a batch does not fit into memory."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial, wraps
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchmetrics import Metric

from kit.ground._torch import version_of
from kit.ground.out_of_memory import DoesNotFit, memory_needed
from kit.safeguards.memory.micro_batches import step_in_parts, training_norms
from kit.safeguards.memory.parts import Logs, count, joined, split
from kit.safeguards.memory.sizes import EVALUATION, Sizes
from kit.safeguards.patching import replaced
from kit.task import as_task


class MemoryGuard(L.Callback):
    """A batch that does not fit into the GPU's memory is computed in micro-batches, as large as fit.

    A training step stays the step that it was: one step of the optimizer, on the gradient of the whole batch, which
    clipping, accumulation, the loss scaler and distributed training get as always. A task whose loss is a mean says how
    its parts add up: `loss_terms(batch)` returns sums and what each is divided by, Float[J] both; `training_step` takes
    its loss from them; and `additive`, if it has that, is False where this is not exact. The loss of any other module
    is taken as a mean over samples. Validation, test and prediction go over parts of a batch, whose metrics add up.

    Nothing is done before memory runs out; then the size is halved until it fits, said in a line, and kept in the
    checkpoints, for a run that is resumed on the same device. What goes another way than in a whole batch: batch
    normalisation is over micro-batches (its statistics move as far as before, but once more in the step that failed),
    and dropout is drawn anew. A step that fails in its backward pass goes on from there, with the gradients that are
    still missing.

    In distributed training (DDP) each process finds its own size, since nobody waits for anybody within a step before
    gradients are exchanged; from the next validation or epoch on all have the smallest. Left alone are manual
    optimization, and what waits for the other processes in each forward pass: synchronised batch normalisation, and
    strategies that divide the model. Several loss terms in micro-batches need an uncompiled net: each has a backward
    pass of its own. The batch itself (its images, not what the net makes of them) has to fit.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.sizes = Sizes()
        self._parameters: list[nn.Parameter] = []
        self._metrics: list[Metric] = []
        self._arguments: tuple[Any, ...] = ()  # of the training step whose backward pass comes next
        self._replaced = ExitStack()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.sizes.device = trainer.strategy.root_device
        if self.enabled:
            self._metrics = [module for module in pl_module.modules() if isinstance(module, Metric)]
            task = as_task(pl_module)
            for name in ("evaluate",) if task.has("evaluate") else EVALUATION:
                if task.has(name):
                    self._replace(pl_module, name, partial(self._evaluate, trainer, pl_module, name))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.enabled:
            return
        if why := _left_alone(trainer, pl_module):
            if trainer.is_global_zero:
                print(f"memory_guard: training is left alone ({why})")
            return
        self._parameters = list(pl_module.parameters())
        step = pl_module.training_step
        self._replace(pl_module, "training_step", partial(self._train, trainer, pl_module))
        self._replace(trainer.strategy, "backward", partial(self._backward, trainer, pl_module, step))
        self._replace(pl_module, "optimizer_step", _optimizer_step)
        if (size := self.sizes.found.get("training_step")) and trainer.is_global_zero:
            print(f"memory_guard: training goes on in micro-batches of {size}, as before")

    def _replace(self, owner: Any, name: str, by: Callable[..., Any]) -> None:
        """`owner.NAME(...)` becomes `by(owner.NAME, ...)`."""
        method = getattr(owner, name)

        @wraps(method)  # Lightning looks at its arguments
        def step(*args: Any) -> Any:
            return by(method, *args)

        self._replaced.enter_context(replaced(owner, name, step))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._replaced.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._replaced.close()

    def state_dict(self) -> dict[str, Any]:
        return self.sizes.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.sizes.load_state_dict(state_dict)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.enabled:
            self.sizes.agree(trainer.strategy)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.enabled:
            self.sizes.agree(trainer.strategy)

    def _train(self, trainer: L.Trainer, pl_module: L.LightningModule, method: Callable[..., Any], *args: Any) -> Any:
        self._arguments = args
        return self._step(trainer, pl_module, method, self._parameters)

    def _step(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        method: Callable[..., Any],
        parameters: Sequence[nn.Parameter],
    ) -> Any:
        """The training step, in more and more parts until they fit; in parts, with gradients of `parameters` alone."""
        while True:
            parts = self.sizes.parts("training_step", self._arguments[0])
            try:
                if parts == 1:
                    return method(*self._arguments)
                loss = step_in_parts(trainer, pl_module, method, self._arguments, parts, parameters)
                break
            except torch.OutOfMemoryError as error:
                said = str(error)
            self.sizes.make_smaller("training_step", self._arguments[0], said)
        self.sizes.say("training_step", f"in micro-batches of {{}}, {_exactness(pl_module)}", trainer)
        return loss

    def _backward(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        step: Callable[..., Any],
        method: Callable[..., Any],
        loss: Tensor,
        *args: Any,
    ) -> Tensor:
        before = _versions(self._parameters)
        try:
            loss = method(loss, *args)
            self._arguments = ()
            return loss
        except torch.OutOfMemoryError as error:
            said = str(error)
        loss.detach_()  # Lightning holds it, and so the activations
        after = _versions(self._parameters)
        missing = [p for p, old, new in zip(self._parameters, before, after, strict=True) if old == new]
        self.sizes.make_smaller("training_step", self._arguments[0], said)
        with replaced(pl_module, "log", _log_nothing), trainer.precision_plugin.train_step_context():
            loss = self._step(trainer, pl_module, step, missing)
        return method(loss / trainer.accumulate_grad_batches, *args)

    def _evaluate(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        name: str,
        method: Callable[..., Any],
        batch: Any,
        *others: Any,
    ) -> Any:
        """A step of validation, test or prediction. A part that has been counted is not computed again."""
        parts = self.sizes.parts(name, batch)
        todo = [batch] if parts == 1 else split(batch, parts)
        logs, outputs, counts = Logs(), [], []
        while todo:
            part, updates = todo[0], [metric.update_count for metric in self._metrics]
            try:
                if part is batch:
                    return method(batch, *others)
                with replaced(pl_module, "log", logs.take):
                    outputs.append(method(part, *others))
                counts.append(count(part))
                logs.keep(counts[-1])
                todo = todo[1:]
                continue
            except torch.OutOfMemoryError as error:
                said = str(error)
            logs.drop()
            self.sizes.make_smaller(name, part, said)
            if updates != [metric.update_count for metric in self._metrics]:
                raise DoesNotFit(
                    f"{memory_needed(said)}, when a metric had counted a batch already: lower data.batch_size"
                )
            todo = [smaller for part in todo for smaller in split(part, self.sizes.parts(name, part))]
        logs.log(pl_module)
        self.sizes.say(name, "with {} samples at a time", trainer)
        return joined(outputs, counts)


def _left_alone(trainer: L.Trainer, pl_module: L.LightningModule) -> str:
    """Why training cannot be guarded; nothing if it can."""
    if not pl_module.automatic_optimization:
        return "manual optimization"
    if trainer.strategy.model is not pl_module and not isinstance(trainer.strategy.model, DistributedDataParallel):
        return f"{type(trainer.strategy).__name__} divides the model"
    if trainer.world_size > 1 and any(isinstance(module, nn.SyncBatchNorm) for module in pl_module.modules()):
        return "synchronised batch normalisation"
    return ""


def _exactness(pl_module: L.LightningModule) -> str:
    """Whether the gradient is that of the whole batch, for the line that says what is done."""
    said = "with the gradient of the whole batch"
    if not as_task(pl_module).has("loss_terms"):
        said += " if the loss is a mean over its samples"
    elif not as_task(pl_module).additive:
        said = "with a gradient close to that of the whole batch, not equal: the loss is no sum over its samples"
    return f"{said}; batch normalisation is over a micro-batch" if training_norms(pl_module) else said


def _versions(parameters: Sequence[nn.Parameter]) -> list[int]:
    """Of each gradient, the number of times it was written to; -1 where there is none."""
    return [-1 if parameter.grad is None else version_of(parameter.grad) for parameter in parameters]


def _optimizer_step(method: Callable[..., Any], *args: Any) -> None:
    """It cannot be done in parts, nor again: some weights have moved."""
    try:
        method(*args)
    except torch.OutOfMemoryError as error:
        said = str(error)
        raise DoesNotFit(
            f"the optimizer's step does not fit: {memory_needed(said)}; what helps: a smaller net (model.net), or an "
            "optimizer that keeps less than two numbers a weight"
        ) from None


def _log_nothing(*_: Any, **__: Any) -> None:
    """It has been logged already."""
