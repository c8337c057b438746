"""One step: the numbers that it is judged by, and how it is taken out."""

from itertools import chain
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from kit.ground._torch import buffers_by_owner, copy_each, norm_of_each
from kit.safeguards.nan.rollback import averages
from kit.safeguards.nan.signs import Silence


def measure(losses: list[Tensor], optimizer: Optimizer, scale: float, silence: Silence) -> Tensor | None:
    """Float[5] on the device: whether the step is bad, whether the loss is, the loss (0 if it is bad), the longest
    silence, the gradient's norm; equal on all processes, and above 0 if it is so on one of them. None without a loss.

    Args:
        losses: of the batches of one step, each divided by their number.
        scale: by which fp16's scaler has multiplied them.
    """
    parameters = [p for p in chain(*(group["params"] for group in optimizer.param_groups)) if p.grad is not None]
    if not losses or not parameters:
        return None
    loss = torch.stack(losses).sum().float() / scale
    norms = torch.stack([norm.float() for norm in norm_of_each([p.grad for p in parameters])])
    loss_bad = ~loss.isfinite()
    norm = norms.norm()
    bad = loss_bad | ~norm.isfinite()
    longest = silence.seen(parameters, norms, loss)
    if getattr(optimizer, "_step_supports_amp_scaling", False):  # it has the scale taken out itself
        norm = norm / scale
    numbers = torch.stack([bad.float(), loss_bad.float(), torch.where(bad, 0.0, loss), longest.float(), norm])
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(numbers)  # Lightning's own makes the host wait
        numbers /= torch.distributed.get_world_size()
    return numbers


class Late:
    """Numbers on their way from the device. Asked for a step later they have arrived, and nobody has waited."""

    def __init__(self, numbers: Tensor) -> None:
        self._host = torch.empty(numbers.shape, pin_memory=numbers.is_cuda).copy_(numbers, non_blocking=True)
        self._arrived = torch.cuda.Event() if numbers.is_cuda else None
        if self._arrived:
            self._arrived.record()

    def read(self) -> list[float]:
        if self._arrived:
            self._arrived.synchronize()
        return self._host.tolist()


def skips_on_device(trainer: L.Trainer) -> bool:
    """Whether the optimizer can be told on the device to leave a step out (`found_inf`, as fp16's scaler does).

    Not SGD: with momentum it takes uninitialised memory for its state if it begins with such a step. fp16 and averaged
    weights make the host wait for each step anyway.
    """
    optimizer = trainer.optimizers[0]
    fused = isinstance(optimizer, (Adam, AdamW)) and all(group.get("fused") for group in optimizer.param_groups)
    waits = scaler(trainer) is not None or any(averages(trainer))
    return trainer.strategy.root_device.type == "cuda" and fused and not waits


def scaler(trainer: L.Trainer) -> Any:
    """fp16's."""
    return getattr(trainer.precision_plugin, "scaler", None)


def take_out(trainer: L.Trainer, optimizer: Optimizer, buffers: "Buffers") -> None:
    """The step that is about to be made is none: not for weights and optimizer, nor buffers, nor averaged weights."""
    if scaler(trainer) is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
        for parameter in chain(*(group["params"] for group in optimizer.param_groups)):
            if parameter.grad is not None:
                parameter.grad.fill_(float("inf"))  # the scaler has yet to look, and must find something to look at
    else:
        optimizer.zero_grad(set_to_none=True)  # what has no gradient is passed over, weight decay and all
    buffers.put_back()
    for callback in averages(trainer):  # they count it as one that they have averaged already
        callback.load_state_dict({**callback.state_dict(), "latest_update_step": trainer.global_step + 1})


class Buffers:
    """A module's buffers (BatchNorm's statistics and counts, a codebook), in a few kernels however many they are."""

    def __init__(self, module: nn.Module) -> None:
        self._places = [(owner, name) for owner, name in buffers_by_owner(module) if owner[name] is not None]
        self._kept: list[Tensor] = []

    def keep(self) -> None:
        """As they are now."""
        self._kept = [_joined(group) for group in self._groups()]

    def put_back(self, where: Tensor | None = None) -> None:
        """As they were kept; if `where`, Bool[], is given, then only where it is true, which the host need not know."""
        for group, kept in zip(self._groups(), self._kept, strict=True):
            wanted = kept if where is None else torch.where(where, kept, _joined(group))
            parts = wanted.split([buffer.numel() for buffer in group])
            copy_each(group, [part.view_as(buffer) for part, buffer in zip(parts, group, strict=True)])

    def _groups(self) -> list[list[Tensor]]:
        """Of one device and type each; asked anew, since a module may put another tensor in a buffer's place."""
        groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for owner, name in self._places:
            buffer = owner[name]
            assert buffer is not None
            groups.setdefault((buffer.device, buffer.dtype), []).append(buffer.detach())
        return list(groups.values())


def _joined(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
