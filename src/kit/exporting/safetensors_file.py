"""safetensors: the net's weights alone, for a program of your own that builds the same net."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

PACKAGES = ("safetensors",)


def write(net: nn.Module, metadata: Mapping[str, str], file: Path) -> None:
    """Under the names of `net.state_dict()`."""
    from safetensors.torch import save

    # Contiguous, and a copy each: the file knows neither memory formats nor tensors that share their memory.
    tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in net.state_dict().items()}
    file.write_bytes(save(tensors, dict(metadata)))  # `save_file` makes files that nobody else may read


def unequal(net: nn.Module, file: Path) -> int:
    """How many of the net's tensors are not, bit for bit, what the file holds."""
    from safetensors.torch import load_file

    held: dict[str, Tensor] = load_file(file)
    own = net.state_dict()
    same = [name for name, tensor in own.items() if name in held and torch.equal(tensor.cpu(), held[name])]
    return len(own.keys() | held.keys()) - len(same)
