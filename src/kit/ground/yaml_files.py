"""Read YAML files within limits on size, depth and number of values. `parse_yaml` describes the schema."""

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import yaml

from kit.ground.errors import BrokenFiles, UserError, one_line
from kit.ground.files import MAX_CONFIG_BYTES, read_text

MAX_DEPTH = 50  # the largest number of nested lists and mappings
MAX_VALUES = 100_000  # the largest number of values; an alias counts as all values that it repeats
TOO_DEEP = f"lists and mappings are nested more than {MAX_DEPTH} levels deep"
TOO_MANY = f"more than {MAX_VALUES:,} values, with the values behind each alias"


# PyYAML may have been built without the faster C library.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A safe loader with the schema that `parse_yaml` describes."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        # PyYAML would also read numbers in base 60, such as `!!int 1:30`, with any number of digits.
        return int(self.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?)"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("merge", r"<<", "<"),
):
    # With the loader's patterns, the dumper quotes a text such as `1e-3`, which is a text in YAML 1.1.
    for _class in (_Loader, yaml.SafeDumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})$"), list(_first))


def read_yaml(file: Path, loader: Any = _Loader) -> Any:
    """Return the value in a YAML file, see `parse_yaml`.

    Raises:
        UserError: the file cannot be read (see `read_text`), is not YAML, or exceeds a limit.
    """
    try:
        return parse_yaml(read_text(file, MAX_CONFIG_BYTES), loader)
    except BrokenFiles as error:
        raise UserError(str(error)) from None  # the user gave this file, so the command is wrong
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{file}{line}: broken YAML ({error.problem})") from None
    except yaml.YAMLError as error:
        raise UserError(f"{file}: broken YAML ({one_line(error)})") from None


def read_yaml_as_text(file: Path) -> Any:
    """Return the value in a YAML file. Numbers, booleans and nulls stay text.

    Raises:
        UserError: see `read_yaml`.
    """
    return read_yaml(file, yaml.BaseLoader)


def parse_yaml(text: str, loader: Any = _Loader) -> Any:
    """Return the value of a YAML text. The schema is nearly the core schema of YAML 1.2.

    Unlike in YAML 1.1, `yes`, `no`, `on`, `off`, dates, and times such as 12:30 stay text. Unlike in the core schema,
    007 and 0x1F stay text, 1_000 is a number, and `<<` merges mappings.

    Raises:
        yaml.YAMLError: the text is not YAML, or exceeds a limit.
    """
    try:
        depth = 0
        for event in yaml.parse(text, Loader=loader):  # without recursion
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            _require(depth <= MAX_DEPTH, TOO_DEEP, event)
        node = yaml.compose(text, Loader=loader)  # an alias and its anchor share one node, which saves memory
        _require_limits(node, count(1), 0)
        return yaml.load(text, Loader=loader)  # a SafeLoader
    except (ValueError, TypeError, ArithmeticError, AttributeError, LookupError) as error:  # such as for `!!int cat`
        raise yaml.YAMLError(str(error)) from None


def leaves(text: str, key: str = "") -> Iterator[tuple[str, Any, int]]:
    """Yield each key of a config, as one writes it on the command line, its value, and its line.

    If the value is an object, its class path is yielded, and then the keys of its arguments.

    Args:
        text: YAML. A text that is not YAML counts as one value.
        key: the key of the whole text.
    """
    try:
        parse_yaml(text)  # checks the limits
        loader = _Loader(text)
        yield from _leaves(loader, loader.get_single_node(), key, 1)
    except yaml.YAMLError:
        yield key, text, 1


def _leaves(loader: Any, node: Any, key: str, line: int) -> Iterator[tuple[str, Any, int]]:
    if isinstance(node, yaml.SequenceNode) and any(isinstance(item, yaml.MappingNode) for item in node.value):
        for item in node.value:
            for name, value, line in _leaves(loader, item, key, item.start_mark.line + 1):
                yield name, [value] if name == key else value, line
    elif isinstance(node, yaml.MappingNode):
        loader.flatten_mapping(node)
        for name, value in node.value:
            is_skipped = name.value in ("class_path", "init_args", "dict_kwargs")
            nested = key if is_skipped else f"{key}.{name.value}".lstrip(".")
            yield from _leaves(loader, value, nested, name.start_mark.line + 1)
    else:
        yield key, loader.construct_object(node, deep=True) if node else None, line


def _require_limits(node: Any, counter: Iterator[int], depth: int) -> None:
    _require(depth <= MAX_DEPTH, TOO_DEEP, node)
    _require(next(counter) <= MAX_VALUES, TOO_MANY, node)
    if isinstance(node, yaml.MappingNode):
        names = set()
        for key, _ in node.value:
            name = (key.tag, str(key.value))
            _require(name not in names, f"the key '{name[1]}' is there more than once", key)
            names.add(name)
    if isinstance(node, yaml.CollectionNode):
        for child in node.value:
            for part in child if isinstance(node, yaml.MappingNode) else [child]:
                _require_limits(part, counter, depth + 1)


def _require(condition: bool, problem: str, element: Any) -> None:
    if not condition:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=element.start_mark)
