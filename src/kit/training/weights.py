"""Fine-tuning: weights of somebody else's, for other classes and other channels, and which of them are held still."""

import argparse
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor, nn
from torchvision.models import GoogLeNet, Inception3

from kit.ground._lightning import finds_unused_parameters
from kit.ground.checkpoint_limits import require_weights
from kit.ground.errors import UserError

PREFIXES = ("", "net.", "net.net.", "module.")  # of a net's tensors: our runs', and those of distributed training


def load_weights(net: nn.Module, weights: str | dict[str, Tensor], head: str | tuple[str, ...]) -> None:
    """Loads weights; those of a head of other classes are left out, a first convolution's fitted to the channels.

    Args:
        net: of torchvision or another library.
        weights: a state dict, or a file of one as `torch.save` or safetensors write it, or of a dict that holds it as
            `state_dict` (a run's own checkpoint) or `model` (torchvision's references).
        head: how the names of the head's tensors begin.

    Raises:
        UserError: there is no such file, it holds no weights, or more than that does not fit.
    """
    own = net.state_dict()
    state = _of_net(_read(weights) if isinstance(weights, str) else weights, own)
    first = next((f"{name}.weight" for name, m in net.named_modules() if isinstance(m, nn.Conv2d)), "")
    if first in state and state[first].ndim == 4:
        state = {**state, first: _for_channels(state[first], own[first].shape[1])}
    fits = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    wrong = [key for key in own if key not in fits and not key.startswith(head)]
    wrong = [key for key in wrong if not key.endswith("num_batches_tracked")]  # old files have none
    if wrong:
        named = weights if isinstance(weights, str) else "what was downloaded"
        said = f"{len(wrong)} of {len(own)} tensors are missing or of another shape"
        raise UserError(f"{named} does not fit: {said}, as {wrong[0]}")
    net.load_state_dict(fits, strict=False)


def _of_net(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the names of the net's own tensors: without the prefix that most of them have."""
    renamed = [{key.removeprefix(prefix): value for key, value in state.items()} for prefix in PREFIXES]
    return max(renamed, key=lambda tensors: len(tensors.keys() & own.keys()))


def _read(file: str) -> dict[str, Tensor]:
    if not Path(file).is_file():
        raise UserError(f"no file of weights at {file}")
    content = _content(file)
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise UserError(f"{file} holds no weights; give a state dict")
    return tensors


def _content(file: str) -> Any:
    unreadable = f"{file} cannot be read as weights; give a state dict, as torch.save or safetensors write it"
    if file.endswith(".safetensors"):
        try:
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        except ImportError:
            raise UserError("a .safetensors file needs safetensors: pip install -e '.[zoo]'") from None
        try:
            return load_file(file)
        except (SafetensorError, OSError):
            raise UserError(unreadable) from None
    try:
        require_weights(Path(file))
        with torch.serialization.safe_globals([argparse.Namespace]):  # torchvision's references keep their arguments
            return torch.load(file, weights_only=True, map_location="cpu")
    except Exception:  # torch raises exceptions of many kinds for a file that is damaged or something else
        raise UserError(unreadable) from None


def swap_first_convolution(net: nn.Module, in_channels: int) -> None:
    """Replace a net's first convolution by one for another number of channels, with weights as by `_for_channels`."""
    name, old = next((name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d))
    if old.in_channels == in_channels:
        return
    shape = in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, old.dilation
    new = nn.Conv2d(*shape, bias=old.bias is not None)
    new.load_state_dict({**old.state_dict(), "weight": _for_channels(old.weight, in_channels)})
    net.set_submodule(name, new)
    if isinstance(net, (GoogLeNet, Inception3)):
        net.transform_input = False  # it is for three channels


def initialise_head(layer: nn.Module) -> None:
    """Initialise a classification layer so that all K classes start equally likely: the first loss is near ln(K).

    The weights get a standard deviation of 0.01 and the biases 0, as in torchvision's VGGs and MobileNets. In a
    `ModuleList`, each layer is initialised; in any other module only the last layer with weights, which gives the
    classes.
    """
    if isinstance(layer, nn.ModuleList):
        for one in layer:
            initialise_head(one)
        return
    *_, last = (module for module in layer.modules() if isinstance(module, (nn.Linear, nn.Conv2d)))
    nn.init.normal_(last.weight, std=0.01)
    if last.bias is not None:
        nn.init.zeros_(last.bias)


def _for_channels(weight: Tensor, channels: int) -> Tensor:
    """A convolution's weights, averaged over the channels if these are others, their sum being kept."""
    old = weight.shape[1]
    return weight if old == channels else (weight.mean(1, keepdim=True) * old / channels).repeat(1, channels, 1, 1)


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


def require_epochs(freeze_epochs: int) -> None:
    """Check `freeze_epochs`.

    Raises:
        UserError: the number of epochs is negative.
    """
    if freeze_epochs < 0:
        raise UserError(f"model.freeze_epochs is {freeze_epochs}, but must be 0 or more")


def allow_freezing(trainer: Trainer) -> None:
    """Raises UserError if processes would wait for gradients that frozen parameters do not get."""
    if trainer.world_size > 1 and not finds_unused_parameters(trainer):
        raise UserError("model.freeze_epochs needs --trainer.strategy ddp_find_unused_parameters_true here")
