"""Find the annotations of config keys, and the values that jsonargparse accepts for an annotation.

`Expected` and `accepts` find out which values these are, and `describe` describes them in words.
"""

import functools
import inspect
from collections import abc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from importlib import import_module
from numbers import Number
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentError, ArgumentParser, Namespace, get_loader
from jsonargparse._typehints import ActionTypeHint, accepts_any_value  # private names
from jsonargparse.typing import get_registered_type
from torch import Tensor, nn

from kit.ground import app

NN_MODULE = nn.Module  # expected if an annotation names no class, since nets, losses and transforms are modules

# How `describe` names these annotations.
WORDS = {int: "a whole number", float: "a number", Number: "a number", str: "text", NoneType: "null", Any: "any value"}

Annotations = dict[str, Any]  # maps a key to its annotation, and a group of keys to a dict like this


def parser_annotations(parser: ArgumentParser) -> Annotations:
    """Return the annotation of each key of a parser."""
    annotations = Namespace()
    for action in parser._actions:
        if isinstance(action, ActionTypeHint):  # options such as --help have no annotation
            annotations[action.dest] = action._typehint
    return annotations.as_dict()


@functools.cache
def parameter_annotations(target: Any) -> Annotations:
    """Return the annotations of the parameters of a class or a function, including those in its `**kwargs`."""
    parser = ArgumentParser(exit_on_error=False)
    add = parser.add_class_arguments if isinstance(target, type) else parser.add_function_arguments
    add(target, fail_untyped=False)
    return parser_annotations(parser)


def parse_value(text: str) -> Any:
    """Parse a text of a config or a command line as YAML; return it unchanged if it is not valid YAML."""
    try:
        return get_loader("yaml")(text)
    except Exception:  # the parser does the same
        return text


def accepts(annotation: Any, value: Any) -> bool:
    """Return whether the parser accepts a value of a config, or a text of the command line, for an annotation."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=annotation)
    try:
        parser.parse_object({"value": value})
    except ArgumentError:
        return False
    if value is None:  # the parser does not check null here
        return accepts_any_value(annotation) or any(kind in (None, NoneType) for kind in get_args(annotation))
    return True


def describe(annotation: Any) -> str:
    """Describe in words which values an annotation accepts, such as `a whole number or null`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    kind, expected = origin or annotation, Expected.any_of([annotation])
    if origin in (Union, UnionType):
        arguments = sorted(arguments, key=lambda argument: (argument is NoneType, argument is not bool))
        return " or ".join(dict.fromkeys(describe(argument) for argument in arguments if argument is not Tensor))
    if origin is Literal or kind is bool:
        return " or ".join("null" if value is None else str(value) for value in arguments or ("true", "false"))
    if kind in WORDS:
        return WORDS[kind]
    if expected.classes:
        return "the path of a class (package.module.Class)"
    if expected.values:
        return "a mapping of names to values"
    if expected.items:
        number = f"{len(arguments)} " if kind is tuple and ... not in arguments else ""
        each = describe(Union[tuple(expected.items)])  # noqa: UP007
        return f"a list of {number}values" + (f", each {each}" if each != "any value" else "")
    return kind.__name__ if isinstance(kind, type) else str(kind)


def import_path(path: str) -> Any:
    """Import the class or function that a path such as `package.module.Class` names."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)  # the name is only known at run time


def find_class(text: str, kinds: Sequence[type]) -> type | None:
    """Return the subclass of one of `kinds` that a text names, by its path or its name alone, or None."""
    if "." not in text:
        return next((kind for kind in subclasses(kinds) if kind.__name__ == text), None)
    try:
        kind = import_path(text)
    except Exception:  # importing a module may raise any exception
        return None
    return kind if isinstance(kind, type) and issubclass(kind, tuple(kinds)) else None


def subclasses(kinds: Iterable[type]) -> Iterator[type]:
    """Yield each class and all its subclasses that are imported."""
    for kind in kinds:
        yield kind
        yield from subclasses(type.__subclasses__(kind))


def default_of(kind: type, name: str) -> Any:
    """Return the default of an argument of a class, or None if it has none.

    The argument is looked up in the constructor of the class and, if it is missing there, in those of its base classes.
    """
    signatures = [inspect.signature(base.__init__).parameters for base in kind.__mro__]  # type: ignore[misc]
    default = next((parameters[name].default for parameters in signatures if name in parameters), None)
    return None if default is inspect.Parameter.empty else default


def expected_instead_of_null(kind: type, name: str) -> str:
    """Return in words which values an argument of a class accepts, or "" if null may be one of them.

    Only classes of this library and of the application are judged: others often accept None against their annotations.
    The argument is looked up in the constructor of the class and, if it is missing there, in those of its base classes.
    """
    owners = (base for base in kind.__mro__ if name in inspect.signature(base.__init__).parameters)  # type: ignore[misc]
    owner = next(owners, None)
    is_own = owner is not None and owner.__module__.partition(".")[0] in (__name__.partition(".")[0], app.package)
    annotation = parameter_annotations(kind).get(name) if is_own and default_of(kind, name) is not None else None
    return "" if annotation is None or accepts(annotation, None) else describe(annotation)


@dataclass
class Expected:
    """The values that an annotation accepts.

    text: whether some strings are accepted. For a number, these are only strings such as "3".
    anything: whether any value is accepted. The parser then creates an object from a mapping with `class_path`.
    classes: paths and instances of these classes, and of their subclasses, are accepted. For a `Callable`, these are
        the classes that it returns, since the parser creates a factory of such a class.
    items: the annotations of the items of a list.
    values: the annotations of the values of a mapping.
    """

    text: bool = False
    anything: bool = False
    classes: list[type] = field(default_factory=list)
    items: list[Any] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    @classmethod
    def any_of(cls, annotations: Iterable[Any]) -> "Expected":
        """Return the values that at least one of the annotations accepts."""
        expected = cls()
        for annotation in annotations:
            expected._add(annotation)
        return expected

    def _add(self, annotation: Any) -> None:
        origin, arguments = get_origin(annotation), get_args(annotation)
        kind = origin or annotation
        if origin in (Union, UnionType, Annotated):
            for argument in arguments[:1] if origin is Annotated else arguments:
                self._add(argument)
        elif accepts_any_value(annotation):
            self.anything = self.text = True
        elif kind in (abc.Callable, type):
            results = arguments[1:] if kind is abc.Callable else arguments
            self.classes += Expected.any_of(results).classes or [NN_MODULE]
        elif kind is Literal:
            self.text = True
        elif kind in (None, NoneType, Tensor):  # no config describes a tensor
            pass
        elif not isinstance(kind, type):  # a type variable, or another kind of annotation
            self.text = True
            self.classes.append(NN_MODULE)
        elif issubclass(kind, (str, bytes, int, float, complex, Enum)) or get_registered_type(kind):
            self.text = True
        elif kind.__module__ not in ("builtins", "collections", "collections.abc"):
            self.classes.append(kind)
        elif issubclass(kind, abc.Mapping):
            self.values += arguments[1:] or [Any]
        elif issubclass(kind, abc.Iterable):
            self.items += [argument for argument in arguments if argument is not ...] or [Any]
        else:
            self.classes.append(kind)
