"""Read YAML by the core schema of YAML 1.2, within limits of size, depth and number of values."""

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from kit.ground.errors import BrokenFiles, UserError
from kit.ground.files import MAX_CONFIG_BYTES, read_text

MAX_DEPTH = 50  # levels of lists and mappings
MAX_VALUES = 100_000  # an alias counts as many values as what it stands for
MAX_DIGITS = 100  # of a number


def read_yaml(file: Path) -> Any:
    """Return the value in a YAML file, as `parse_yaml` does.

    Raises:
        UserError: see `read_text`; or the file is not YAML, or exceeds a limit.
    """
    return _read_yaml(file, _Loader)


def read_yaml_as_text(file: Path) -> Any:
    """Return the value in a YAML file, with each number, boolean and null as the text in the file.

    Raises:
        UserError: see `read_yaml`.
    """
    return _read_yaml(file, _TextLoader)


def _read_yaml(file: Path, loader: type) -> Any:
    try:
        text = read_text(file, MAX_CONFIG_BYTES)
    except BrokenFiles as error:
        raise UserError(str(error)) from None  # the user named this file, so the command is wrong and not the data
    try:
        return _parse(text, loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f":{mark.line + 1}"
        why = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UserError(f"{file}{line}: broken YAML ({why})") from None


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text, by the core schema of YAML 1.2.

    Unlike in YAML 1.1, these stay text: `yes`, `no`, `on` and `off`, dates, times (12:30), and numbers that begin with
    0 (007).

    Raises:
        yaml.YAMLError: the text is not YAML, or exceeds a limit.
    """
    return _parse(text, _Loader)


def _parse(text: str, loader: type) -> Any:
    try:
        _require_limits(text)
        return yaml.load(text, Loader=loader)  # a SafeLoader
    except (ValueError, TypeError, ArithmeticError, AttributeError, LookupError) as error:  # by a tag, as `!!int cat`
        raise yaml.YAMLError(str(error)) from None


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A safe loader with the core schema of YAML 1.2."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?)"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})$"), list(_first))


class _TextLoader(_Loader):
    """A safe loader that reads every scalar as text."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}


def _require_limits(text: str) -> None:
    """Check a YAML text by its events, before any value is built. This needs hardly any memory.

    Raises:
        yaml.YAMLError: the text is not YAML, or exceeds a limit.
    """
    sizes: dict[str, int] = {}  # anchor to its number of values; an alias counts as many as its anchor has
    open_parts: list[tuple[str | None, int]] = []  # the anchor and the size so far of each open list or mapping
    for event in yaml.parse(text, Loader=_Loader):
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.CollectionStartEvent):
            open_parts.append((anchor, 1))
            if len(open_parts) > MAX_DEPTH:
                raise _beyond(event, f"lists and mappings are nested more than {MAX_DEPTH} deep")
            continue
        if isinstance(event, yaml.AliasEvent):
            if anchor not in sizes:
                raise _beyond(event, f"the alias *{anchor} stands inside of itself, or before its anchor &{anchor}")
            size = sizes[anchor]
        elif isinstance(event, yaml.ScalarEvent):
            number = event.tag == "tag:yaml.org,2002:int" or re.fullmatch(r"[-+]?[0-9_]+", event.value)
            if number and len(event.value) > MAX_DIGITS:
                raise _beyond(event, f"a number of {len(event.value):,} digits")
            size = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_parts.pop()
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        if open_parts:
            outer_anchor, others = open_parts[-1]
            open_parts[-1] = outer_anchor, others + size
            if others + size > MAX_VALUES:
                raise _beyond(event, f"more than {MAX_VALUES:,} values, counting what each alias stands for")


def _beyond(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
