"""What may stand in a place of a config, as jsonargparse understands the annotation there."""

import functools
import inspect
from collections import abc
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from importlib import import_module
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin

from jsonargparse import ArgumentParser, get_loader
from jsonargparse._typehints import ActionTypeHint, accepts_any_value  # its own reading of annotations, nowhere public
from jsonargparse.typing import get_registered_type
from torch import nn

UNSAID = nn.Module  # a net, a loss or a transform: what a class must be where an annotation leaves it open

Kinds = dict[str, Any]  # an annotation for each key; for a group of keys a dict like this


def of_parser(parser: ArgumentParser) -> Kinds:
    """The annotation of each of a parser's keys."""
    kinds: Kinds = {}
    for action in parser._actions:
        if isinstance(action, ActionTypeHint):  # not --help and the like
            *groups, name = action.dest.split(".")
            inside = kinds
            for group in groups:
                inside = inside.setdefault(group, {})
            inside[name] = action._typehint
    return kinds


@functools.cache
def of_parameters(called: Any) -> Kinds:
    """The annotation of each parameter of a class or a function, those behind its `**kwargs` too."""
    parser = ArgumentParser(exit_on_error=False)
    add = parser.add_class_arguments if isinstance(called, type) else parser.add_function_arguments
    add(called, fail_untyped=False)
    return of_parser(parser)


def parsed(text: str) -> Any:
    """Return what the parser makes of a text in a config or on the command line: its value as YAML, or the text."""
    try:
        return get_loader("yaml")(text)
    except Exception:  # the parser, too, leaves it a text
        return text


def imported(path: str) -> Any:
    """Import the class or function that a path such as `package.module.Class` names."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def default_of(kind: type, name: str) -> Any:
    """Return the default of an argument, as a class or the first of its bases that has the argument declares it.

    Returns:
        None if there is no such argument, or it has no default
    """
    for base in kind.__mro__:
        parameter = inspect.signature(base.__init__).parameters.get(name)  # type: ignore[misc]
        if parameter is not None:
            return None if parameter.default is parameter.empty else parameter.default
    return None


@dataclass
class Expected:
    """What an annotation lets stand in a place.

    Args:
        text: a text is nothing but a text, whatever else it could be.
        anything: any value; in the form of a class with its arguments it is made into one.
        classes: a text may name one of these classes, a subclass, or an object of one. For a `Callable`, these are the
            classes of what it returns: the parser makes a factory of such a class.
        items: annotations that the items of a list may have.
        values: annotations that the values of a mapping may have.
    """

    text: bool = False
    anything: bool = False
    classes: list[type] = field(default_factory=list)
    items: list[Any] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    @classmethod
    def by(cls, annotations: Iterable[Any]) -> "Expected":
        """By any of several annotations."""
        expected = cls()
        for annotation in annotations:
            expected._add(annotation)
        return expected

    @property
    def only_text(self) -> bool:
        return not (self.anything or self.classes or self.items or self.values)

    def _add(self, annotation: Any) -> None:
        origin, arguments = get_origin(annotation), get_args(annotation)
        kind = origin or annotation
        if origin in (Union, UnionType):
            for one in arguments:
                self._add(one)
        elif origin is Annotated:
            self._add(arguments[0])
        elif isinstance(annotation, NewType):
            self._add(annotation.__supertype__)
        elif hasattr(annotation, "__value__"):  # `type Name = ...`
            self._add(annotation.__value__)
        elif accepts_any_value(annotation):
            self.anything = self.text = True
        elif kind is abc.Callable:
            self.classes += Expected.by(arguments[1:]).classes or [UNSAID]
        elif kind is type:
            self.classes += Expected.by(arguments).classes or [UNSAID]
        elif kind is Literal:
            self.text = True
        elif kind in (None, NoneType):
            pass
        elif not isinstance(kind, type):  # a type variable, and whatever else there will be
            self.text = True
            self.classes.append(UNSAID)
        elif issubclass(kind, (str, bytes, int, float, complex, Enum)) or get_registered_type(kind):
            self.text = True
        elif kind.__module__ in ("builtins", "collections", "collections.abc") and issubclass(kind, abc.Mapping):
            self.values += arguments[1:] or [Any]
        elif kind.__module__ in ("builtins", "collections", "collections.abc") and issubclass(kind, abc.Iterable):
            self.items += [one for one in arguments if one is not ...] or [Any]
        else:
            self.classes.append(kind)
