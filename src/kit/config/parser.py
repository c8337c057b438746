"""The parsers of configs and command lines: LightningCLI's, whose errors are one line each."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
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

from kit.config._jsonargparse import own_defaults
from kit.config.annotations import default_of
from kit.config.mistakes import Complaint, explain, explain_carried
from kit.ground.errors import UserError
from kit.ground.reading import parse_yaml
from kit.training.schedule import FILLED_IN, refuse_wrapper

# Where jsonargparse would only warn of what a config names (os, subprocess, eval), it raises.
set_parsing_settings(import_path_denylist=[])


def _load(text: str) -> Any:
    """Parse a config, or a value of the command line, as YAML.

    Mappings without values, `name:` and `{a, b}`, stay text, as with jsonargparse's own loader.
    """
    value = parse_yaml(text)
    if isinstance(value, dict) and value and not any(":" in line.rstrip(" :}") for line in text.splitlines()):
        return text if all(inside is None for inside in value.values()) else value
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


class _Strict(ArgumentParser):
    """A mistake raises `UserError`, and an abbreviated key is a mistake."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})
        self.outermost = False
        self.carried: list[str] = []  # a line for each learning rate that an optimizer has from the one it replaced

    def read(self, args: list[str]) -> Namespace:
        """Parse a command line. Its keys override those of the configs that it names, wherever these stand.

        Raises:
            UserError: the command line, or a config that it names, has a mistake.
        """
        self.outermost = True
        args = _configs_first(args)
        try:
            with own_defaults() as carried:
                config = self.parse_args(args)
            self.carried = explain_carried(carried, vars(config.as_flat()))
            return config
        except Complaint as complaint:  # explained here, since the parser changes into the folder of each config
            keys = [action.dest for action in self._actions if action.option_strings]
            raise UserError(explain(str(complaint), keys, args)) from None

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.outermost:  # a parser of a part; the outermost parser includes its error in its own
            super().error(message, ex)
        raise Complaint(message)


class Parser(_Strict, LightningArgumentParser):
    """The parser of a run's config and command line.

    A logger needs no `save_dir`: without one, it writes into the run's folder. A schedule needs no length.

    within: a context that is entered whenever a `LightningModule` is made.
    """

    within: AbstractContextManager[Any] | None = None

    def add_instantiator(
        self, instantiator: Callable[..., Any], class_type: type, subclasses: bool = True, prepend: bool = False
    ) -> None:
        @functools.wraps(instantiator)  # jsonargparse asks for its parameters
        def limited(*args: Any, **kwargs: Any) -> Any:
            with self.within or nullcontext():
                return instantiator(*args, **kwargs)

        made = limited if class_type is L.LightningModule else instantiator
        super().add_instantiator(made, class_type, subclasses, prepend)

    def add_class_arguments(self, theclass: type, *args, **kwargs) -> list[str]:
        """Add the arguments of a class. Those that are filled in later are not required.

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


def _configs_first(args: list[str]) -> list[str]:
    """Return the arguments with each `--config FILE` before all others, since jsonargparse lets the last one win."""
    configs, others, rest = [], [], iter(args)
    for argument in rest:
        if argument in ("--config", "-c"):
            configs += [argument, *islice(rest, 1)]
        elif argument.startswith("--config="):
            configs.append(argument)
        else:
            others.append(argument)
    return configs + others


def default_save_dir(logger: type) -> str:
    """Return where a logger writes that is given no `save_dir`, relative to the run's folder."""
    return str(default_of(logger, "save_dir") or ".")


class Words(_Strict):
    """The parser of a command line without configs."""
