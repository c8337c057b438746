"""A training step once more, watched, on a copy of the model: it leaves no trace."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from lightning.pytorch.utilities.seed import isolate_rng
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor, nn

from kit.ground._torch import tree_leaves, tree_map_only
from kit.ground.errors import one_line


class Step(NamedTuple):
    """A batch as it was trained on, by reference, and the state of the random numbers before it."""

    batch: Any
    batch_idx: int
    random: dict[torch.device, Tensor]


class Replay(NamedTuple):
    """What was seen.

    module: the first whose output was not finite, as `net.head (Linear)`.
    given: whether what that module was given was finite already.
    operation: the first whose backward made a NaN, as `SqrtBackward0`.
    gradients: name to gradient, where the backward came through.
    error: why the step could not be repeated.
    """

    loss: float | None = None
    module: str | None = None
    given: bool | None = None
    operation: str | None = None
    gradients: dict[str, Tensor] | None = None
    error: str | None = None


def remember(batch: Any, batch_idx: int, device: torch.device) -> Step:
    states = {torch.device("cpu"): torch.get_rng_state()}
    if device.type == "cuda":
        states[device] = torch.cuda.get_rng_state(device)
    return Step(batch, batch_idx, states)


def finite(tree: Any) -> bool:
    """Whether all floating-point tensors in it are."""
    tensors = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def replay(trainer: L.Trainer, pl_module: L.LightningModule, step: Step) -> Replay:
    """One forward and one backward on every process, whatever it finds: what is exchanged inside stays in step."""
    try:
        with _without_trace(trainer):
            return _watched(trainer, _twin(trainer, pl_module), step)
    except Exception as error:  # anyone's code runs here, and a report is no reason to stop
        return Replay(error=one_line(error))


def _watched(trainer: L.Trainer, twin: L.LightningModule, step: Step) -> Replay:
    found: dict[str, Any] = {}
    for name, module in twin.named_modules():
        if module is not twin:
            module.register_forward_hook(_watch(name, found))
    for device, state in step.random.items():
        (torch.cuda if device.type == "cuda" else torch).set_rng_state(state)
    batch = tree_map_only(Tensor, torch.clone, step.batch)
    arguments = [batch, step.batch_idx][: 1 + is_param_in_hook_signature(twin.training_step, "batch_idx", min_args=2)]
    with torch.enable_grad(), torch.autograd.detect_anomaly():
        with trainer.precision_plugin.train_step_context():
            output = twin.training_step(*arguments)
        loss: Any = output["loss"] if isinstance(output, dict) else output
        seen = Replay(float(loss), **found)
        if seen.module or not loss.isfinite():
            return seen
        trained = {name: weight for name, weight in twin.named_parameters() if weight.requires_grad}
        try:
            gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        except RuntimeError as error:
            operation = re.search(r"Function '(\w+)' returned nan", str(error))
            if operation is None:
                raise
            return seen._replace(operation=operation[1])
    there = zip(trained, gradients, strict=True)
    return seen._replace(gradients={name: gradient for name, gradient in there if gradient is not None})


def _watch(name: str, found: dict[str, Any]):
    def hook(module: nn.Module, given: Any, output: Any) -> None:
        if not found and not finite(output):  # inner modules end before the ones around them
            found.update(module=f"{name} ({type(module).__name__})", given=finite(given))

    return hook


def _twin(trainer: L.Trainer, pl_module: L.LightningModule) -> L.LightningModule:
    """Weights, buffers and metrics of its own, uncompiled, and nothing that it logs is heard."""
    twin: Any = TorchSyncBatchNorm().revert(deepcopy(pl_module))
    twin.trainer = trainer
    for name in [name for name in vars(twin) if callable(getattr(type(twin), name, None))]:
        delattr(twin, name)  # another guard's, in the place of a method
    for module in twin.modules():
        if isinstance(module, L.LightningModule):
            module.log = module.log_dict = _unheard  # type: ignore[method-assign, assignment]
    return twin


def _unheard(*args: Any, **kwargs: Any) -> None:
    pass


@contextmanager
def _without_trace(trainer: L.Trainer) -> Iterator[None]:
    loggers = trainer.loggers
    trainer.loggers = [DummyLogger()]
    try:
        with isolate_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        trainer.loggers = loggers
