"""Build a model or a data module from its class path and arguments."""

from typing import Any

from jsonargparse import Namespace

from kit.config.mistakes import root_cause
from kit.config.parser import Parser


def build(kind: type, key: str, config: Namespace | dict[str, Any]) -> Any:
    """A model or a data module alone, of its class path and arguments.

    Args:
        key: the config's place in a run's: `model` or `data`.
    """
    alone = Parser()
    alone.add_lightning_class_args(kind, key, subclass_mode=True)
    whole = alone.parse_object({key: config}) if isinstance(config, dict) else Namespace(**{key: config})
    return instantiate(alone, whole)[key]


def instantiate(parser: Parser, part: Namespace) -> Namespace:
    try:
        return parser.instantiate(part)
    except ValueError as error:
        raise root_cause(error) from None
