"""Parse configs and command lines with LightningCLI's parser, with errors of one line, and build what they name."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from numbers import Number
from typing import Any, NoReturn

import lightning as L
import torch
import yaml
from jsonargparse import ArgumentParser, Namespace, set_loader, set_parsing_settings
from jsonargparse.typing import register_type
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger
from torch.optim.lr_scheduler import LRScheduler

from kit.config._jsonargparse import reset_replaced_arguments
from kit.config.annotations import default_of
from kit.config.arguments import configs_first
from kit.config.mistakes import ParserError, explain, explain_kept_rates, root_cause
from kit.ground.errors import UserError
from kit.ground.yaml_files import parse_yaml
from kit.training.schedule import FILLED_IN, refuse_wrapper

# Make jsonargparse raise an error, instead of a warning, if a config names os, subprocess or eval.
set_parsing_settings(import_path_denylist=[])


def _load(text: str) -> Any:
    """Parse a config, or a value of the command line, as YAML.

    Mappings without values, `name:` and `{a, b}`, stay text, as with jsonargparse's own loader.
    """
    value = parse_yaml(text)
    if isinstance(value, dict) and value and not any(":" in line.rstrip(" :}") for line in text.splitlines()):
        return text if all(item is None for item in value.values()) else value
    return value


set_loader("yaml", _load, exceptions=(yaml.YAMLError,))

# torchvision annotates transforms with `Number`, as in `RandomRotation(degrees: Number | Sequence)`.
register_type(
    Number,
    serializer=lambda number: number,
    deserializer=lambda text: parse_yaml(text) if isinstance(text, str) else text,
    type_check=lambda value, _: isinstance(value, (int, float)),
)


register_type(torch.device, deserializer_exceptions=(ValueError, TypeError, AttributeError, RuntimeError))


class PlainParser(ArgumentParser):
    """A parser that raises `UserError` for a mistake and does not accept abbreviated keys."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})
        self.outermost = False
        self.kept_rates: list[str] = []  # a line for each learning rate that was kept when an optimizer was replaced

    def read(self, args: list[str]) -> Namespace:
        """Parse a command line. Its keys override those of the configs that it names, in any order.

        Raises:
            UserError: the command line, or a config that it names, has a mistake.
        """
        self.outermost = True
        args = configs_first(args)
        try:
            with reset_replaced_arguments() as kept_rates:
                config = self.parse_args(args)
            self.kept_rates = explain_kept_rates(kept_rates, vars(config.as_flat()))
            return config
        except ParserError as error:  # explained here, since the parser changes into the folder of each config
            keys = [action.dest for action in self._actions if action.option_strings]
            raise UserError(explain(str(error), keys, args)) from None

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.outermost:  # an inner parser; the outermost parser includes its error in its own
            super().error(message, ex)
        raise ParserError(message)


class Parser(PlainParser, LightningArgumentParser):
    """The parser of a run's config and command line.

    A logger needs no `save_dir`: without one, it writes into the run's folder. A schedule needs no length.

    model_context: a context in which each `LightningModule` is created.
    """

    model_context: AbstractContextManager[Any] | None = None

    def add_instantiator(
        self, instantiator: Callable[..., Any], class_type: type, subclasses: bool = True, prepend: bool = False
    ) -> None:
        @functools.wraps(instantiator)  # jsonargparse reads its parameters
        def limited(*args: Any, **kwargs: Any) -> Any:
            with self.model_context or nullcontext():
                return instantiator(*args, **kwargs)

        chosen = limited if class_type is L.LightningModule else instantiator
        super().add_instantiator(chosen, class_type, subclasses, prepend)

    def add_class_arguments(self, theclass: type, *args, **kwargs) -> list[str]:
        """Add the arguments of a class. Arguments that are filled in later are not required.

        Raises:
            UserError: a config cannot describe schedules of this class.
        """
        added = super().add_class_arguments(theclass, *args, **kwargs)
        if not isinstance(theclass, type):
            return added
        if issubclass(theclass, LRScheduler):
            refuse_wrapper(theclass)
            for action in self._actions:
                action.required = action.required and action.dest not in FILLED_IN
        if issubclass(theclass, Logger):
            for action in self._actions:
                if action.dest == "save_dir" and action.required:
                    action.required, action.default = False, default_save_dir(theclass)
        return added


def default_save_dir(logger: type) -> str:
    """Return the folder, relative to the run's, that a logger without `save_dir` writes to."""
    return str(default_of(logger, "save_dir") or ".")


def build(kind: type, key: str, config: Namespace | dict[str, Any]) -> Any:
    """Build a model or a data module from its class path and arguments.

    Args:
        kind: its base class.
        key: its key in the config of a run: `model` or `data`.
        config: `class_path` and `init_args`.
    """
    parser = Parser()
    parser.add_lightning_class_args(kind, key, subclass_mode=True)
    parsed = parser.parse_object({key: config}) if isinstance(config, dict) else Namespace(**{key: config})
    return instantiate(parser, parsed)[key]


def instantiate(parser: Parser, config: Namespace) -> Namespace:
    """Create the objects that a parsed config describes. An exception is raised without those of jsonargparse."""
    try:
        return parser.instantiate(config)
    except ValueError as error:
        raise root_cause(error) from None
