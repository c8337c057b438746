"""Fine-tuning: load weights that were trained for other classes or channels, and freeze the backbone."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn

from kit.ground._lightning import finds_unused_parameters
from kit.ground.checkpoint_limits import require_weights
from kit.ground.errors import UserError, one_line

PREFIXES = ("", "net.", "net.net.", "module.")  # checkpoints of runs and of DDP put these before the names of tensors
RANDOM_OR_FILE = "--model.net.weights FILE, or random weights by --model.net.pretrained false"


class NotDownloaded(UserError):
    """Pretrained weights cannot be downloaded."""


@contextmanager
def downloading(name: str, options: str = RANDOM_OR_FILE) -> Iterator[None]:
    """Replace the exception of a failed download of weights by one line.

    Args:
        name: the name of the net.
        options: the options that need no download.

    Raises:
        NotDownloaded: the weights cannot be downloaded or stored.
    """
    try:
        yield
    except OSError as error:  # the exceptions of urllib and huggingface_hub are of this class
        cause = error.__cause__ or error.__context__ or error
        reason = f"the pretrained weights of {name} cannot be downloaded ({one_line(cause)})"
        raise NotDownloaded(f"{reason}; without a network connection: {options}") from None


def load_weights(net: nn.Module, weights: str | dict[str, Tensor], head: str | tuple[str, ...]) -> None:
    """Load weights into a net.

    The weights of the first convolution are adapted to the net's number of channels. Tensors of the head keep their
    values if they are missing in the weights or have another shape there.

    Args:
        net: a net of torchvision or another library.
        weights: a state dict, or the path of a file. The file is in the format of `torch.save` or safetensors. It holds
            a state dict, or a dict that has a state dict under one of these keys: `state_dict`, as in checkpoints of
            runs, or `model`, as in those of torchvision's reference scripts.
        head: the prefix, or prefixes, of the names of the head's tensors.

    Raises:
        UserError: the file does not exist, cannot be read or holds no weights, or tensors outside of the head are
            missing or have another shape.
    """
    net_state = net.state_dict()
    state = _without_prefix(_read_state_dict(weights) if isinstance(weights, str) else weights, net_state)
    first_conv = next((f"{name}.weight" for name, m in net.named_modules() if isinstance(m, nn.Conv2d)), "")
    if first_conv in state and state[first_conv].ndim == 4:
        state = {**state, first_conv: _for_channels(state[first_conv], net_state[first_conv].shape[1])}
    fitting = {key: value for key, value in state.items() if key in net_state and net_state[key].shape == value.shape}
    unfit = [key for key in net_state if key not in fitting and not key.startswith(head)]
    unfit = [key for key in unfit if not key.endswith("num_batches_tracked")]  # missing in old files
    if unfit:
        source = weights if isinstance(weights, str) else "the downloaded file"
        problem = f"{len(unfit)} of {len(net_state)} tensors are missing or have another shape"
        raise UserError(f"{source} does not fit: {problem}, such as {unfit[0]}")
    net.load_state_dict(fitting, strict=False)


def load_trunk(trunk: nn.Module, run_or_checkpoint: str) -> None:
    """Load the trunk of another run's net into the trunk of a net.

    Tensors are loaded if their names and shapes are the same in both. The others keep their values, and their names are
    printed.

    Args:
        trunk: the part `trunk` of a net.
        run_or_checkpoint: a run folder, whose best checkpoint is read, or a file as in `load_weights`. Tensors of the
            trunk are those with `trunk.` in their names.

    Raises:
        UserError: there is no such file, it cannot be read, or none of its tensors fits.
    """
    path = Path(run_or_checkpoint)
    file = path / "checkpoints" / "best.ckpt" if path.is_dir() else path
    state = _read_state_dict(str(file))
    stored = {key.rpartition("trunk.")[2]: value for key, value in state.items() if "trunk." in key}
    own = trunk.state_dict()
    fitting = {key: value for key, value in stored.items() if key in own and own[key].shape == value.shape}
    if not any(value.ndim > 1 for value in fitting.values()):
        hint = "train both with the same model.net.widths and depth, and images of the same channels"
        raise UserError(f"{file}: no weights fit the trunk of the net; {hint}")
    trunk.load_state_dict(fitting, strict=False)
    if unfit := sorted({*own, *stored} - fitting.keys()):
        problem = "not loaded, since the trunk or the file lacks them or has another shape"
        rank_zero_only(print)(f"{file}: {len(fitting)} tensors of the trunk loaded; {problem}: {', '.join(unfit)}")


def _without_prefix(state: dict[str, Tensor], net_state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove one of `PREFIXES` from the names in a state dict: the one that makes the most of them match the net's."""
    renamed = [{key.removeprefix(prefix): value for key, value in state.items()} for prefix in PREFIXES]
    return max(renamed, key=lambda tensors: len(tensors.keys() & net_state.keys()))


def _read_state_dict(file: str) -> dict[str, Tensor]:
    """Return the tensors in a file by name. See `load_weights` for its format."""
    if not Path(file).is_file():
        raise UserError(f"no file of weights at {file}")
    try:
        content = _load_file(file)
    except ImportError:
        raise UserError("a .safetensors file needs safetensors: pip install -e '.[zoo]'") from None
    except Exception:  # a damaged file may raise exceptions of many kinds
        raise UserError(f"{file} cannot be read as weights; save a state dict by torch.save or safetensors") from None
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise UserError(f"{file} holds no weights; save a state dict in it")
    return tensors


def _load_file(file: str) -> Any:
    if file.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(file)
    require_weights(Path(file))
    with torch.serialization.safe_globals([argparse.Namespace]):  # in files of torchvision's reference scripts
        return torch.load(file, weights_only=True, map_location="cpu")


def swap_first_convolution(net: nn.Module, in_channels: int) -> None:
    """Replace a net's first convolution by one for another number of channels, and adapt its weights."""
    name, old = next((name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d))
    if old.in_channels == in_channels:
        return
    shape = in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, old.dilation
    new = nn.Conv2d(*shape, bias=old.bias is not None)
    new.load_state_dict({**old.state_dict(), "weight": _for_channels(old.weight, in_channels)})
    net.set_submodule(name, new)
    if hasattr(net, "transform_input"):  # torchvision's GoogLeNet and Inception3: a transform for three channels
        net.transform_input = False


def initialise_head(head: nn.Module) -> None:
    """Initialise a classification layer so that all K classes are equally likely, with a loss near ln(K).

    The weights get a standard deviation of 0.01 and the biases 0, as in torchvision's VGGs and MobileNets.

    Args:
        head: a module whose last linear or convolutional layer is initialised, or a `ModuleList` of such modules.
    """
    for part in head if isinstance(head, nn.ModuleList) else [head]:
        *_, last = (module for module in part.modules() if isinstance(module, (nn.Linear, nn.Conv2d)))
        nn.init.normal_(last.weight, std=0.01)
        if last.bias is not None:
            nn.init.zeros_(last.bias)


def _for_channels(weight: Tensor, channels: int) -> Tensor:
    """Return the weights of a convolution for another number of input channels.

    Each channel gets the mean over the old channels, scaled so that the sum over the channels stays the same.
    """
    old = weight.shape[1]
    return weight if old == channels else (weight.mean(1, keepdim=True) * old / channels).repeat(1, channels, 1, 1)


def set_backbone_frozen(net: nn.Module, frozen: bool) -> None:
    """Freeze or unfreeze a net outside of its `head`. The frozen part gets no gradients and keeps BatchNorm statistics.

    Args:
        net: a net with an attribute `head`.
        frozen: whether to freeze (True) or to unfreeze.
    """
    for child in net.children():
        child.train(not frozen)
    net.requires_grad_(not frozen)
    net.head.train()
    net.head.requires_grad_()


def check_freezing(trainer: Trainer) -> None:
    """Raise `UserError` if distributed training would wait for the gradients of frozen parameters."""
    if trainer.world_size > 1 and not finds_unused_parameters(trainer):
        raise UserError("with DDP, model.freeze_epochs needs --trainer.strategy ddp_find_unused_parameters_true")
