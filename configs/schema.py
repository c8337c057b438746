"""`make schema`: write schema.json, with which editors check and complete configs.

    python configs/schema.py [FILE]

Keys come from the parser. The schema lists the arguments of the classes of this project and of its library. Classes of
other packages are allowed everywhere, with any arguments.
"""

import inspect
import json
import sys
import typing
from collections import abc
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union

import kit
import project as own
from kit.cli.command_line import CLI
from kit.config.annotations import Annotations, parameter_annotations, parser_annotations
from kit.config.parser import Parser

FILE = Path(__file__).with_name("schema.json")
SIMPLE = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    Path: {"type": "string"},
    NoneType: {"type": "null"},
    None: {"type": "null"},
}
CLASS = {"$ref": "#/$defs/class"}  # only a class path, or one with arguments
ANYTHING: dict[str, Any] = {}


class _Parsed(Exception):
    """Raised to end a command line when its parser is complete."""


class _Keys(CLI):
    """A command line that keeps the annotation of each key, and parses nothing."""

    def parse_arguments(self, parser: Parser, args: list[str]) -> None:
        self.kinds = parser_annotations(parser)
        raise _Parsed(self.kinds)


def keys() -> Annotations:
    """Return the annotation of each key of a config."""
    try:
        _Keys([])
    except _Parsed as parsed:
        return parsed.args[0]
    raise AssertionError("the parser was not built")


def classes() -> dict[str, type]:
    """Return the classes that the packages of this project and its library export, by their shortest paths."""
    paths: dict[str, type] = {}
    for package in (own, kit):
        for folder in sorted(Path(package.__path__[0]).glob("*/__init__.py")):
            name = f"{package.__name__}.{folder.parent.name}"
            for exported in getattr(module := import_module(name), "__all__", ()):
                if inspect.isclass(kind := getattr(module, exported)):
                    paths[f"{name}.{exported}"] = kind
    return paths


def of_annotation(annotation: Any) -> dict[str, Any]:
    """Return the schema of a value. It accepts anything if the parser accepts more than the annotation says."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    kind = origin or annotation
    if annotation in SIMPLE:
        return SIMPLE[annotation]
    if origin in (Union, UnionType):
        return {"anyOf": [of_annotation(argument) for argument in arguments]}
    if origin is Annotated:
        return of_annotation(arguments[0])
    if origin is Literal:
        return {"enum": list(arguments)}
    if kind is abc.Callable:
        return CLASS
    if isinstance(kind, type) and issubclass(kind, (int, float)):  # see `kit.ground.ranges`
        return {**SIMPLE[int if issubclass(kind, int) else float], "description": kind.__name__}
    if not isinstance(kind, type) or kind.__module__ == "datetime":
        return ANYTHING
    if issubclass(kind, abc.Mapping):
        return {"type": "object"}
    if issubclass(kind, abc.Iterable) and kind.__module__ in ("builtins", "collections.abc"):
        items = [argument for argument in arguments if argument is not ...]
        return {"type": "array", "items": {"anyOf": [of_annotation(item) for item in items]} if items else ANYTHING}
    return CLASS if kind.__module__ != "builtins" else ANYTHING


def of_keys(kinds: Annotations) -> dict[str, Any]:
    """Return the schema of a group of keys. It accepts no other keys."""
    properties = {key: of_keys(kind) if isinstance(kind, dict) else of_annotation(kind) for key, kind in kinds.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def schema() -> dict[str, Any]:
    """Return a JSON schema that accepts each complete config and each overlay."""
    known = classes()
    arguments = [
        {
            "if": {"properties": {"class_path": {"const": path}}, "required": ["class_path"]},
            "then": {"properties": {"init_args": of_keys(parameter_annotations(kind))}},
        }
        for path, kind in known.items()
    ]
    path = {"anyOf": [{"enum": sorted(known)}, {"type": "string"}]}
    properties = {"class_path": path, "init_args": {"type": "object"}, "dict_kwargs": {"type": "object"}}
    with_arguments = {"type": "object", "required": ["class_path"], "additionalProperties": False}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **of_keys(keys()),
        "$defs": {"class": {"anyOf": [path, {**with_arguments, "properties": properties, "allOf": arguments}]}},
    }


if __name__ == "__main__":
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    file.write_text(json.dumps(schema(), indent=1) + "\n")
    print(file)
