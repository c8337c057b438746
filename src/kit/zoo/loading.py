"""Create nets by their names, and load their initial weights."""

import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

from torch import nn
from torchvision import models

from kit.ground.errors import UserError, did_you_mean
from kit.training.weights import Weights, downloading, hash_tensors, load_weights, read_weights, swap_first_convolution

Pretrained = bool | Literal["auto"]  # the configs of fine-tuning write `auto`, which means the same as True
HUB_SECONDS = 3  # the longest wait for a connection to the Hugging Face hub


def require_known(name: str, known: Iterable[str], problem: str) -> None:
    """Raise `UserError` if a name is not one of a library's names. The message suggests similar names.

    Args:
        name: the name to check.
        known: the names of the library.
        problem: the beginning of the message, such as "timm has no model".
    """
    if name not in (names := list(known)):
        raise UserError(f"{problem} '{name}'{did_you_mean(name, names)}")


def torchvision_model(
    name: str, module: ModuleType, in_channels: int, prefixes: str | tuple[str, ...] = "", **options: Any
) -> Any:
    """Return a net of torchvision with random weights.

    Args:
        name: the name of the net in torchvision.
        module: the module of torchvision that has such nets.
        in_channels: the number of channels of an image, C.
        prefixes: the beginnings of supported names.
        options: arguments of the net.
    """
    known = [model for model in models.list_models(module=module) if model.startswith(prefixes)]
    require_known(name, known, f"{module.__name__} has no model")
    net = models.get_model(name, weights=None, **options)
    swap_first_convolution(net, in_channels)
    return net


def load_pretrained(
    net: nn.Module, name: str, weights: str | None, pretrained: Pretrained, head: tuple[str, ...], part: nn.Module
) -> None:
    """Load weights into a net of torchvision: those in a file or a run, or torchvision's default weights, or none.

    Args:
        net: the net, whose head may be for other classes than the weights.
        name: the name of the net in torchvision.
        weights: the file or the run, or None.
        pretrained: whether to load torchvision's weights if no file is given. They are downloaded once.
        head: the beginnings of the names of the head's tensors, which may have other shapes than in the weights.
        part: the part of the net, such as the backbone, that is loaded if the weights do not fit the whole net; `net`
            if there is no such part.
    """
    if not weights and not pretrained:
        return
    default: Any = models.get_model_weights(name).DEFAULT
    if weights:
        loaded = read_weights(weights)
    else:
        with downloading(name):
            # Build the net, since torchvision renames some tensors of the file as it loads them.
            tensors = models.get_model(name, weights=default).state_dict()
        loaded = Weights(tensors, f"torchvision's {name} ({default.name})", default.meta.get("license", ""))
    if hasattr(net, "transform"):  # a detector: it has the image mean and std with which its weights were trained
        loaded = loaded.with_defaults(net.transform.image_mean, net.transform.image_std)
    else:
        transform = default.transforms()
        crop_size = getattr(transform, "crop_size", None)  # only transforms of classification have it
        loaded = loaded.with_defaults(transform.mean, transform.std, crop_size and (crop_size[0], crop_size[0]))
    load_whole_or_part(net, part, loaded, head)


def load_whole_or_part(net: nn.Module, part: nn.Module, weights: Weights, head: str | tuple[str, ...]) -> None:
    """Load weights of a whole net or, if they do not fit it, of a part of it such as the backbone.

    Args:
        net, part: the net and its part. The part may be a wrapper with an attribute `model`, as in timm.
        weights: the weights. All tensors of the part must fit.
        head: see `load_weights`.
    """
    # A net of timm that returns features has the name `stages_0` for the layer `stages.0`.
    renamed = {re.sub(r"\b([a-z]+)\.(\d+)", r"\1_\2", key, count=1): t for key, t in weights.tensors.items()}
    renamed_weights = replace(weights, tensors=renamed)
    parts = [part, part.model] if isinstance(getattr(part, "model", None), nn.Module) else [part]
    candidates = (weights, renamed_weights)
    attempts = [(net, weights, head), *((part, candidate, ()) for part in parts for candidate in candidates)]
    for target, candidate, prefixes in attempts:
        with suppress(UserError):
            load_weights(target, candidate, prefixes)
            if candidate is renamed_weights:  # the hash must describe the file, which has the original names
                target.initial_weights = replace(target.initial_weights, sha256=hash_tensors(weights.tensors))
            return
    load_weights(part, weights, ())  # raises the error for the part


@contextmanager
def downloading_from_hub(name: str) -> Iterator[None]:
    """Download weights as in `downloading`, but use only the cache if the Hugging Face hub cannot be reached.

    The hub's library would repeat its requests for a minute.
    """
    from huggingface_hub import constants

    was_offline = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = was_offline or not (Path(name).is_dir() or _is_reachable(constants.ENDPOINT))
    with downloading(name):
        try:
            yield
        except OSError as error:
            if constants.HF_HUB_OFFLINE and not was_offline:
                error.__cause__ = OSError(f"{constants.ENDPOINT} cannot be reached")  # the reason that is printed
            raise
        finally:
            constants.HF_HUB_OFFLINE = was_offline


def _is_reachable(url: str) -> bool:
    address = urlsplit(url)
    if {address.scheme, "all"} & {*getproxies()}:  # the connection goes to a proxy
        return True
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        with socket.create_connection((address.hostname, port), HUB_SECONDS):
            return True
    except OSError:
        return False
