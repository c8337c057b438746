"""Fine-tuning: weights of somebody else's, for other classes and other channels, and which of them are held still."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from project import UserError

if TYPE_CHECKING:
    from lightning import Trainer


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


def freeze_all_but_head(net: nn.Module, frozen: bool) -> None:
    """No gradients outside of `net.head`, and batch normalisation there keeps its statistics; or all as usual again."""
    head = set(net.head.modules())
    for module in net.modules():
        if module not in head and module is not net:
            module.train(not frozen)
    for module in head:
        module.train()
    heads = {id(parameter) for parameter in net.head.parameters()}
    for parameter in net.parameters():
        parameter.requires_grad_(not frozen or id(parameter) in heads)


def allow_freezing(trainer: "Trainer") -> None:
    """Raises UserError if processes would wait for gradients that frozen parameters do not get."""
    finds_unused = getattr(trainer.strategy, "_ddp_kwargs", {}).get("find_unused_parameters")
    if trainer.world_size > 1 and not finds_unused:
        raise UserError("model.freeze_epochs needs --trainer.strategy ddp_find_unused_parameters_true here")
