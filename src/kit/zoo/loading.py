"""Create nets by their names, and load their initial weights."""

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from torch import nn
from torchvision import models

from kit.ground.errors import UserError, did_you_mean
from kit.training.weights import downloading, load_weights


def require_known(name: str, known: Iterable[str], problem: str) -> None:
    """Raise `UserError` if a library does not have a name. The error suggests similar names.

    Args:
        name: the name to check.
        known: the names of the library.
        problem: the beginning of the message, such as "timm has no model".
    """
    if name not in (names := list(known)):
        raise UserError(f"{problem} '{name}'{did_you_mean(name, names)}")


def torchvision_model(name: str, module: ModuleType, prefixes: str | tuple[str, ...] = "", **options: Any) -> Any:
    """Return a net of torchvision with random weights.

    Args:
        name: the name of the net in torchvision.
        module: the module of torchvision that has such nets.
        prefixes: the beginnings of supported names.
        options: arguments of the net.
    """
    known = [model for model in models.list_models(module=module) if model.startswith(prefixes)]
    require_known(name, known, f"{module.__name__} has no model")
    return models.get_model(name, weights=None, **options)


def load_pretrained(net: nn.Module, name: str, weights: str | None, pretrained: bool, head: tuple[str, ...]) -> None:
    """Load weights into a net of torchvision: those in a file, or torchvision's default weights, or none.

    Args:
        net: the net, whose head may be for other classes than the weights.
        name: the name of the net in torchvision.
        weights: the file, or None.
        pretrained: whether to load torchvision's weights if no file is given. They are downloaded once.
        head: the beginnings of the names of the head's tensors, which may have other shapes than in the weights.
    """
    if weights:
        load_weights(net, weights, head)
    elif pretrained:
        with downloading(name):
            trained = models.get_model(name, weights="DEFAULT")
        load_weights(net, trained.state_dict(), head)
