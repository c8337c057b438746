"""Parse configs and command lines with LightningCLI's parser, and build models and data modules from them."""

import functools
from argparse import SUPPRESS, ArgumentError
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from numbers import Number
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from jsonargparse import ArgumentParser, Namespace, set_loader, set_parsing_settings
from jsonargparse.typing import register_type
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.optim.lr_scheduler import LRScheduler

from kit.config._jsonargparse import reset_replaced_arguments
from kit.config.annotations import expected_instead_of_null, import_path, parser_annotations
from kit.config.arguments import extract_option, scan
from kit.config.mistakes import explain
from kit.ground.errors import UserError
from kit.ground.yaml_files import parse_yaml, read_yaml
from kit.training.schedule import FILLED_IN

# Once a denylist is set, even an empty one, jsonargparse refuses the imports on its own denylist, such as `os`,
# `subprocess` and `eval`, instead of only warning about them.
set_parsing_settings(import_path_denylist=[])
set_loader("yaml", parse_yaml, exceptions=(yaml.YAMLError,))
# A default may be a member of an enumeration, such as the interval of Lightning's `Timer`.
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))

# torchvision annotates transforms with `Number`, such as `RandomRotation(degrees: Number | Sequence)`.
register_type(
    Number,
    serializer=lambda number: number,
    deserializer=lambda text: parse_yaml(text) if isinstance(text, str) else text,
    type_check=lambda value, _: isinstance(value, (int, float)),
)
register_type(torch.device, deserializer_exceptions=(ValueError, TypeError, AttributeError, RuntimeError))


class PlainParser(ArgumentParser):
    """A parser that raises `UserError` for a mistake and does not accept abbreviated keys.

    It prints no usage, since the pages in `kit/cli/help` explain the verbs.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **{**kwargs, "usage": SUPPRESS, "allow_abbrev": False, "exit_on_error": False})
        self.link_sources: dict[str, str] = {}  # maps each linked key to the key whose value it gets

    def link_arguments(self, source: str, target: str, *args: Any, **kwargs: Any) -> None:
        """Give the key `target` the value of the key `source`. A command line cannot set `target`."""
        super().link_arguments(source, target, *args, **kwargs)
        self.link_sources[target.replace(".init_args", "")] = source

    def read(self, args: list[str]) -> Namespace:
        """Parse a command line. Its keys override all configs that it names, even configs that come after the keys.

        In a value that begins with `~/`, also in lists, tuples and dicts, the home folder replaces `~`.

        Raises:
            UserError: the command line, or a config that it names, has a mistake.
        """
        configs, others = extract_option(args, "--config", "-c")
        for option, _, _ in scan(others):
            for target, source in self.link_sources.items():
                if option.removeprefix("--") in (target, target.rpartition(".")[2]):
                    raise UserError(f"{option} cannot be set: {target} gets the value of {source}")
        parent_keys = [key for key, annotation in parser_annotations(self).items() if isinstance(annotation, dict)]
        for file in configs:
            content = read_yaml(Path(file))  # `read_yaml` has limits that the parser does not have
            if isinstance(content, dict) and any(isinstance(content.get(key), (list, str)) for key in parent_keys):
                # The parser ignores a list or a text where a key has keys below it.
                raise UserError(explain("", self, configs, others))
        try:
            with reset_replaced_arguments() as kept_rates:
                config = self.parse_args([*(f"--config={file}" for file in configs), *others])
        except ArgumentError as error:
            raise UserError(explain(str(error), self, configs, others)) from None
        self._refuse_null(config)
        values = vars(config.as_flat())
        config = _expand_home(config)  # in a config, no shell has expanded it
        for key in [key for key in values if key.endswith(".class_path") and values[key] in kept_rates]:
            old, rate = kept_rates[values[key]]
            if values.get(key.replace("class_path", "init_args.lr")) == rate:
                rank_zero_only(print)(f"{values[key]} replaces {old} and keeps only its learning rate, {rate:g}")
        return config

    def _refuse_null(self, value: Any, key: str = "") -> None:
        """Raise `UserError` if an argument that needs a value is null. The parser checks this only for some classes."""
        if isinstance(value, list):
            for item in value:
                self._refuse_null(item, key)
        elif isinstance(value, Namespace):
            for name, inner in vars(value).items():
                self._refuse_null(inner, f"{key}.{name}".lstrip(".").removesuffix(".init_args"))
            kind = import_path(value.class_path) if "class_path" in value else None
            arguments = vars(value.get("init_args") or Namespace())
            for name in [name for name in arguments if arguments[name] is None and isinstance(kind, type)]:
                if expected := expected_instead_of_null(kind, name):
                    raise UserError(f"{key}.{name} is null, but must be {expected}")

    def instantiate(self, *args: Any, **kwargs: Any) -> Namespace:
        """Create the objects that a parsed config describes.

        If this fails, jsonargparse tries other ways to read a value, and chains the exceptions. Raise only the first.
        """
        try:
            return super().instantiate(*args, **kwargs)
        except ValueError as error:
            cause: BaseException = error
            while isinstance(cause, ValueError) and cause.__cause__:
                cause = cause.__cause__
            raise cause from None


def _expand_home(value: Any) -> Any:
    """Return a value of a config in which the home folder replaces `~` in texts and paths that begin with `~/`.

    Dicts and namespaces are changed, and not copied.
    """
    if isinstance(value, str | Path) and str(value).startswith("~/"):
        return type(value)(Path(value).expanduser())
    if type(value) in (list, tuple):
        return type(value)(map(_expand_home, value))
    if isinstance(value, dict | Namespace):
        entries = value if isinstance(value, dict) else vars(value)
        entries.update({key: _expand_home(item) for key, item in entries.items()})
    return value


class Parser(PlainParser, LightningArgumentParser):
    """The parser of a run's config and command line.

    A logger needs no `save_dir`, and a schedule needs no length. Both arguments are filled in later.

    model_context: a reusable context in which each `LightningModule` is created.
    """

    model_context: AbstractContextManager[Any] = nullcontext()

    def add_instantiator(self, instantiator: Callable[..., Any], class_type: type, *args: Any, **kwargs: Any) -> None:
        @functools.wraps(instantiator)  # jsonargparse reads the parameters of `instantiator`
        def create_in_context(*values: Any, **options: Any) -> Any:
            with self.model_context:
                return instantiator(*values, **options)

        create = create_in_context if class_type is L.LightningModule else instantiator
        super().add_instantiator(create, class_type, *args, **kwargs)

    def add_class_arguments(self, theclass: type, *args, **kwargs) -> list[str]:
        keys = super().add_class_arguments(theclass, *args, **kwargs)
        bases = theclass.__mro__ if isinstance(theclass, type) else ()
        for action in self._actions:
            if LRScheduler in bases and action.dest in FILLED_IN:
                action.required = False
            elif Logger in bases and action.dest == "save_dir" and action.required:
                action.required, action.default = False, "."
        return keys


def build(kind: type, key: str, config: Namespace | dict[str, Any]) -> Any:
    """Build a model or a data module from its class path and arguments.

    Args:
        kind: the base class of the object.
        key: the object's key in the config of a run: `model` or `data`.
        config: `class_path` and `init_args`.
    """
    parser = Parser()
    parser.add_lightning_class_args(kind, key, subclass_mode=True)
    parsed = parser.parse_object({key: config}) if isinstance(config, dict) else Namespace(**{key: config})
    return parser.instantiate(parsed)[key]
