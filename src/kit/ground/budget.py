"""Limit the memory and the time that it takes to build the model of a stranger's file, by the size of its tensors."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kit.ground.errors import UserError

MAKING = {
    *(torch.empty, torch.empty_strided, torch.zeros, torch.ones, torch.full, torch.eye, torch.rand, torch.randn),
    *(torch.randint, torch.randperm, torch.arange, torch.linspace, torch.logspace),
}
SPARE_NUMBERS = 32_000_000  # for metrics, and for a head that is replaced
SPARE_CALLS, CALLS_A_TENSOR = 20_000, 50  # calls of torch's functions; making a tensor takes about ten


class Budget(TorchFunctionMode):
    """A context in which torch makes at most twice as many numbers as the file's tensors hold, and some to spare.

    A tensor that is too large is refused before it takes memory, and a net of too many layers before it takes time.

    Args:
        tensors: the `state_dict` of the file, or whatever stands in its place.
        file: the checkpoint, for the error message.
    """

    def __init__(self, tensors: Any, file: Path) -> None:
        super().__init__()
        held = [one for one in tensors.values() if isinstance(one, Tensor)] if isinstance(tensors, dict) else []
        storages = {one.untyped_storage().data_ptr(): one for one in held}  # shared memory is counted once
        self.held = sum(one.untyped_storage().nbytes() // one.element_size() for one in storages.values())
        self.numbers = 2 * self.held + SPARE_NUMBERS
        self.calls = CALLS_A_TENSOR * len(held) + SPARE_CALLS
        self.file = file

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        self.calls -= 1
        if func in MAKING:
            self.numbers -= func(*args, **{**kwargs, "device": "meta"}).numel()
        elif func is Tensor.clone:  # copies of layers are made with it
            self.numbers -= args[0].numel()
        if self.calls < 0 or self.numbers < 0:
            raise UserError(
                f"{self.file}: the model that it names is much larger than its weights, which are {self.held:,} "
                "numbers; it is not built"
            )
        return func(*args, **kwargs)
