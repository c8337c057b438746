"""Start from pretrained weights: read them from a file or a run, and load them into a net or into a part of it."""

import argparse
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn

from kit.ground.checkpoint_limits import refuse_compressed_zip
from kit.ground.errors import UserError, import_extra, one_line

RANDOM_OR_FILE = "--model.net.weights FILE, or random weights with --model.net.pretrained false"
# The state of a data module in a checkpoint is recognised by these keys. Only `in_channels` distinguishes it from the
# data module's hyper-parameters, whose mean may be None.
DATA_STATE = {"mean", "std", "in_channels"}


class NotDownloaded(UserError):
    """Pretrained weights cannot be downloaded."""


@contextmanager
def downloading(name: str) -> Iterator[None]:
    """Replace the exception of a failed download of weights by one line.

    Args:
        name: the name of the net.

    Raises:
        NotDownloaded: the weights cannot be downloaded or stored.
    """
    try:
        yield
    except OSError as error:  # the exceptions of urllib and huggingface_hub are of this class
        cause = error.__cause__ or error.__context__ or error
        reason = f"the pretrained weights of {name} cannot be downloaded ({one_line(cause)})"
        raise NotDownloaded(f"{reason}; without a network connection: {RANDOM_OR_FILE}") from None


@dataclass(frozen=True)
class Weights:
    """Pretrained weights, and the images that they were trained with.

    tensors: the tensors by name.
    source: where they come from, such as a file.
    licence: the licence that the source states, or "".
    mean, std: the normalisation of the images: one number for each channel, for pixels from 0 to 1; None if unknown.
    image_size: the height and width of the images; None if unknown.
    """

    tensors: Mapping[str, Tensor] = field(repr=False)
    source: str
    licence: str = ""
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    image_size: tuple[int, int] | None = None

    def with_defaults(self, mean: Any, std: Any, image_size: Any = None) -> "Weights":
        """Return the same weights, with the given values where the weights' own are unknown."""
        normalisation = {"mean": mean, "std": std} if self.mean is None else {}
        return replace(self, **normalisation, image_size=self.image_size or image_size)


@dataclass(frozen=True)
class InitialWeights(Weights):
    """The weights that a net, or a part of it, has started from. `tensors` are the loaded tensors of the net.

    sha256: a hash of all tensors of the source, which does not depend on their order or on the format of the file.
    """

    sha256: str = ""


def find_loaded_weights(net: nn.Module) -> tuple[str, InitialWeights] | None:
    """Return the pretrained part's prefix in a net (such as `net.`) and its weights, or None if all are random."""
    parts = ((name, getattr(module, "initial_weights", None)) for name, module in net.named_modules())
    return next(((f"{name}." * bool(name), start) for name, start in parts if isinstance(start, InitialWeights)), None)


def read_weights(file_or_run: str) -> Weights:
    """Read weights from a file, or from the best checkpoint of a run.

    Args:
        file_or_run: a run's folder, or a file in the format of `torch.save` or safetensors. The file holds a state
            dict, or a dict that has a state dict under one of these keys: `state_dict`, as in checkpoints of runs, or
            `model`, as in files of torchvision's reference scripts. A checkpoint of a run also states the mean, std
            and size of its images.

    Raises:
        UserError: the file does not exist, cannot be read or holds no weights.
    """
    path = Path(file_or_run)
    file = path / "checkpoints" / "best.ckpt" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"no file of weights at {file}")
    try:
        content = _load_file(str(file))
    except UserError:
        raise
    except Exception:  # a damaged file may raise exceptions of many kinds
        raise UserError(f"{file} cannot be read as weights; save a state dict by torch.save or safetensors") from None
    return find_weights(content, str(file))


def find_weights(content: Any, source: str) -> Weights:
    """Find the weights in the content of a file, in one of the formats of `read_weights`.

    Raises:
        UserError: there are no weights. The message names the source.
    """
    entries = content if isinstance(content, dict) else {}
    state = next((entries[key] for key in ("state_dict", "model") if isinstance(entries.get(key), dict)), entries)
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{source} holds no weights; save a state dict in it")
    # A checkpoint has the state of its data module under the name of the class.
    data = next((value for value in entries.values() if isinstance(value, dict) and {*value} >= DATA_STATE), {})
    return Weights(tensors, source).with_defaults(data.get("mean"), data.get("std"), data.get("size"))


def load_weights(net: nn.Module, weights: Weights | str, head: str | tuple[str, ...] | None = None) -> None:
    """Load weights into a net or into a part of it, and describe them in its attribute `initial_weights`.

    The names of the tensors may have a prefix, such as `net.` in the checkpoint of a run, or `net.trunk.` if only the
    trunk is loaded. The weights of the first convolution are adapted to the net's number of channels.

    Args:
        net: a net, or a part of it such as the backbone.
        weights: the weights, or a file or a run as in `read_weights`.
        head: the prefix, or prefixes, of the names of the head's tensors. These tensors keep their values if they
            are missing in the weights or have another shape there. None allows this for all tensors, and prints their
            names.

    Raises:
        UserError: the weights cannot be read, or do not fit: tensors outside of the head are missing or have another
            shape or, if `head` is None, no tensor fits.
    """
    if isinstance(weights, str):
        weights = read_weights(weights)
        if head is None:  # a trunk may have been trained for another task, with images of another kind
            weights = replace(weights, image_size=None)
    net_state = net.state_dict()
    state = _without_prefix(weights.tensors, net_state)
    first_conv = next((f"{name}.weight" for name, m in net.named_modules() if isinstance(m, nn.Conv2d)), "")
    if first_conv in state and state[first_conv].ndim == 4:
        state[first_conv] = _for_channels(state[first_conv], net_state[first_conv].shape[1])
    shapes = {key: value.shape for key, value in net_state.items()}
    matches = {key: value for key, value in state.items() if shapes.get(key) == value.shape}
    misfits = [key for key in net_state if key not in matches and (head is None or not key.startswith(head))]
    misfits = [key for key in misfits if not key.endswith("num_batches_tracked")]  # old files lack these tensors
    if head is None and not any(value.ndim > 1 for value in matches.values()):
        problem = f"does not fit: none of its tensors fits the net, which has for example {misfits[0]}"
        raise UserError(f"{weights.source} {problem}; train both with the same model.net.widths and depth")
    if head is not None and misfits:
        problem = f"{len(misfits)} of {len(net_state)} tensors are missing or have another shape"
        raise UserError(f"{weights.source} does not fit: {problem}, such as {misfits[0]}")
    net.load_state_dict(matches, strict=False)
    if misfits:
        problem = "not loaded, since they are missing or have another shape"
        rank_zero_only(print)(f"{weights.source}: {len(matches)} tensors loaded; {problem}: {', '.join(misfits)}")
    set_initial_weights(net, weights, matches)


def set_initial_weights(net: nn.Module, weights: Weights, names: Iterable[str]) -> None:
    """Set the attribute `initial_weights` of a net: it describes the weights that the net has started from.

    Args:
        net: the net, or the part of it that has loaded the weights.
        weights: the weights, with all tensors of the source.
        names: the names of the net's tensors that were loaded.
    """
    tensors = net.state_dict(keep_vars=True)
    fields = {"tensors": {name: tensors[name] for name in names}, "sha256": hash_tensors(weights.tensors)}
    net.initial_weights = InitialWeights(**{**vars(weights), **fields})


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names, shapes, types and values of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {list(values.shape)} {values.dtype} ".encode())
        digest.update(values.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _without_prefix(state: Mapping[str, Tensor], net_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a common prefix, by their names without this prefix.

    The prefix, which may be empty, is the one with which most names match those in `net_state`.
    """
    ends = [key for key in net_state if net_state[key].ndim > 1][:3]  # several, since one may be missing in `state`
    prefixes = {key.removesuffix(end) for key in state for end in ends if f".{key}".endswith(f".{end}")} | {""}
    renamed = ({key.removeprefix(p): state[key] for key in state if key.startswith(p)} for p in sorted(prefixes))
    return max(renamed, key=lambda tensors: len(tensors.keys() & net_state.keys()))


def _load_file(file: str) -> Any:
    if file.endswith(".safetensors"):
        return import_extra("safetensors.torch", "a .safetensors file", "zoo").load_file(file)
    refuse_compressed_zip(Path(file))
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
