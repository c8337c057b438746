"""Fine-tuning: load weights that were trained for other classes or channels, and freeze all but the head."""

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

PREFIXES = ("", "net.", "net.net.", "module.")  # of the names of a net's tensors, as runs and DDP store them


def load_weights(net: nn.Module, weights: str | dict[str, Tensor], head: str | tuple[str, ...]) -> None:
    """Load weights into a net. Weights of a head for other classes are left out, and those of the first convolution are
    adapted to the number of channels.

    Args:
        net: a network of torchvision or another library.
        weights: a state dict, or the path of a file. The file holds a state dict, as `torch.save` or safetensors write
            it, or a dict with a state dict as `state_dict` (a run's checkpoint) or `model` (torchvision's references).
        head: the prefix, or prefixes, of the names of the head's tensors.

    Raises:
        UserError: there is no such file, it holds no weights, or other tensors do not fit.
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
        source = weights if isinstance(weights, str) else "what was downloaded"
        problem = f"{len(wrong)} of {len(own)} tensors are missing or of another shape"
        raise UserError(f"{source} does not fit: {problem}, as {wrong[0]}")
    net.load_state_dict(fits, strict=False)


def _of_net(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict with the names of the net's own tensors: without the prefix that most names have."""
    renamed = [{key.removeprefix(prefix): value for key, value in state.items()} for prefix in PREFIXES]
    return max(renamed, key=lambda tensors: len(tensors.keys() & own.keys()))


def _read(file: str) -> dict[str, Tensor]:
    if not Path(file).is_file():
        raise UserError(f"no file of weights at {file}")
    try:
        content = _content(file)
    except ImportError:
        raise UserError("a .safetensors file needs safetensors: pip install -e '.[zoo]'") from None
    except Exception:  # a file that is damaged, or something else, may raise exceptions of many kinds
        raise UserError(f"{file} cannot be read as weights; give a state dict by torch.save or safetensors") from None
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise UserError(f"{file} holds no weights; give a state dict")
    return tensors


def _content(file: str) -> Any:
    if file.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(file)
    require_weights(Path(file))
    with torch.serialization.safe_globals([argparse.Namespace]):  # torchvision's references store their arguments
        return torch.load(file, weights_only=True, map_location="cpu")


def swap_first_convolution(net: nn.Module, in_channels: int) -> None:
    """Replace a net's first convolution by one for another number of channels. The weights are adapted."""
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
        for inner in layer:
            initialise_head(inner)
        return
    *_, last = (module for module in layer.modules() if isinstance(module, (nn.Linear, nn.Conv2d)))
    nn.init.normal_(last.weight, std=0.01)
    if last.bias is not None:
        nn.init.zeros_(last.bias)


def _for_channels(weight: Tensor, channels: int) -> Tensor:
    """Return a convolution's weights for a number of input channels: averaged over the channels, with the same sum."""
    old = weight.shape[1]
    return weight if old == channels else (weight.mean(1, keepdim=True) * old / channels).repeat(1, channels, 1, 1)


def set_backbone_frozen(net: nn.Module, frozen: bool) -> None:
    """Freeze or unfreeze all of a net except its `head`: parameters, and the statistics of batch normalisation.

    Args:
        net: a net with a `head`.
        frozen: whether to freeze.
    """
    head = set(net.head.modules())
    for module in net.modules():
        if module not in head and module is not net:
            module.train(not frozen)
    for module in head:
        module.train()
    heads = {id(parameter) for parameter in net.head.parameters()}
    for parameter in net.parameters():
        parameter.requires_grad_(not frozen or id(parameter) in heads)


def check_freeze_epochs(freeze_epochs: int) -> None:
    """Check `freeze_epochs`.

    Raises:
        UserError: the number of epochs is negative.
    """
    if freeze_epochs < 0:
        raise UserError(f"model.freeze_epochs is {freeze_epochs}, but must be 0 or more")


def check_freezing(trainer: Trainer) -> None:
    """Check that the strategy of distributed training allows parameters without gradients.

    Raises:
        UserError: it does not, so that the processes would wait for these gradients.
    """
    if trainer.world_size > 1 and not finds_unused_parameters(trainer):
        raise UserError("model.freeze_epochs needs --trainer.strategy ddp_find_unused_parameters_true here")
