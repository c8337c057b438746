"""Weights of somebody else's: into nets that have other classes and other channels."""

from pathlib import Path

import torch
from torch import Tensor, nn

from project import UserError


def load_weights(net: nn.Module, weights: str | dict[str, Tensor], head: str | tuple[str, ...]) -> None:
    """Loads weights; those of a head, or of a first convolution, of another size are left out.

    Args:
        net: of torchvision or another library.
        weights: a state dict, or a file of one as `torch.save` or safetensors write it, or of a dict that holds it as
            `state_dict`.
        head: how the names of the head's tensors begin.

    Raises:
        UserError: there is no such file, or more than that does not fit.
    """
    state = _read(weights) if isinstance(weights, str) else weights
    own = net.state_dict()
    fits = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    missing = [key for key in own if key not in fits and not key.startswith(head)]
    if len(missing) > 1:  # one: the first convolution, of another number of channels
        named = weights if isinstance(weights, str) else "what was downloaded"
        raise UserError(f"{named} does not fit: {len(missing)} of {len(own)} tensors do not match, as {missing[0]}")
    net.load_state_dict(fits, strict=False)


def _read(file: str) -> dict[str, Tensor]:
    if not Path(file).is_file():
        raise UserError(f"no file of weights at {file}")
    if file.endswith(".safetensors"):
        try:
            from safetensors.torch import load_file
        except ImportError:
            raise UserError("a .safetensors file needs safetensors: pip install -e '.[zoo]'") from None
        state = load_file(file)
    else:
        state = torch.load(file, weights_only=True, map_location="cpu")
    return state.get("state_dict", state)


def swap_first_convolution(net: nn.Module, in_channels: int) -> None:
    """For another number of input channels the weights are averaged over the old ones, their sum being kept."""
    name, old = next((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d))
    if old.in_channels == in_channels:
        return
    has_bias = old.bias is not None
    new = nn.Conv2d(
        in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, old.dilation, bias=has_bias
    )
    with torch.no_grad():
        mean = old.weight.mean(1, keepdim=True) * old.in_channels / in_channels
        new.weight.copy_(mean.expand_as(new.weight))
        if has_bias:
            new.bias.copy_(old.bias)
    net.set_submodule(name, new)
    if hasattr(net, "transform_input"):  # GoogLeNet's and Inception's, which knows three channels only
        net.transform_input = False
