"""Explain the user's mistake in one line, from an error message of jsonargparse, which describes its internals."""

import importlib
import inspect
import re
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

from kit.config._jsonargparse import KeptRate
from kit.config.annotations import import_path
from kit.ground.errors import did_you_mean
from kit.training.schedule import CANNOT

LONGEST, SHOWN = 1_000, 100  # characters of a word in a message; a longer word is cut


class ParserError(Exception):
    """The parser found a mistake. The message is that of jsonargparse."""


def explain(message: str, known: Iterable[str], given: list[str]) -> str:
    """Return one line that explains an error message of jsonargparse.

    Args:
        message: the text of the error.
        known: the keys of the parser itself, such as `trainer.max_epochs`.
        given: the command line.
    """
    # The time of a search may grow with the square of a word's length, and a word may be as long as the config.
    message = re.sub(r"\S+", lambda word: word[0] if len(word[0]) <= LONGEST else f"{word[0][:SHOWN]}...", message)
    parent = ".".join(re.findall(r'Parser key "([\w.]+)"', message))
    if match := re.search(rf"(\w+ {CANNOT}.*)", message):
        return f"{parent}: {match[1]}"
    if match := re.search(r"unrecognized arguments: (?:--)?([\w.]+)", message):
        return _wrong_key(match[1], known, given)
    if match := re.search(
        r"(?:does not accept (?:option|nested key)|Key|Unrecognized key|Unexpected key)s? '([\w.]+)'", message
    ):
        return _wrong_key(match[1], known, given)
    if match := re.search(r"Option '([\w.]+)' is not accepted", message):
        owners = re.findall(r"class_path[' ]*[=:]? *'([\w.]+)'", message[match.end() :].split("Given value type")[0])
        owners = owners or re.findall(r"class_path '([\w.]+)'", message[: match.start()])
        owner = owners[0] if message[match.end() :].startswith(". Got value") else owners[-1]
        hint = did_you_mean(match[1], _parameters(owner))
        return f"no key '{parent}.{match[1]}' of {owner}{hint}{_where(match[1], given)}"
    if match := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message):
        known = did_you_mean(match[2], _names(match[1]))
        return f"no class '{match[1]}.{match[2]}'{known} (key {parent}){_where(match[2], given)}"
    if match := re.search(r"No module named '([\w.]+)'", message):
        path = next(iter(re.findall(rf"['\"]({re.escape(match[1])}\.[\w.]+)['\"]", message)), match[1])
        return f"no class '{path}': there is no module '{match[1]}' (key {parent}){_where(match[1], given)}"
    if match := re.search(r"File does not exist: '([^']+)'", message):
        return missing_config(Path(match[1]))
    if match := re.search(r"the following arguments are required: ([\w.]+)", message):
        key = f"{parent}.{match[1]}".lstrip(".")
        return f"{key} is missing: give it in the config or as --{key}"
    if match := re.search(r"(?:Given )?[Kk]ey \"([\w.]+)\" is required", message):
        return f"{match[1]} is missing: give it in the config or as --{match[1]}"
    value = re.search(r"Got value: (.*)", message) or re.search(r"Given value: (.*)", message)
    choices = re.findall(r"'([^']*)'", " ".join(re.findall(r"Expected a typing\.Literal\[(.*?)\]", message)))
    expected = sorted(set(re.findall(r"Expected an? <class '(?:\w+\.)*(\w+)'>", message)) - {"NoneType"})
    if parent and value and (choices or expected):
        allowed = f"one of {', '.join(choices)}" if choices else " or ".join(expected)
        return f"{parent} is {value[1]!r}, but must be {allowed}{_where(parent.split('.')[-1], given)}"
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    return " ".join(lines)[:400]


def explain_kept_rates(kept_rates: list[KeptRate], flat: dict[str, Any]) -> list[str]:
    """Return a line for each optimizer that keeps the learning rate of the optimizer that it replaced.

    Args:
        flat: the final values of the config, by keys with dots.
    """
    lines = []
    for old, new, rate in kept_rates:
        for key in [key.removesuffix(".class_path") for key, value in flat.items() if value == new]:
            if flat.get(f"{key}.init_args.lr") == rate:
                option = key.replace(".init_args", "")
                new_name, old_name = (path.rsplit(".", 1)[-1] for path in (new, old))
                lines.append(
                    f"{option}: {new_name} keeps the learning rate {rate:g} of {old_name} (--{option}.lr changes it); "
                    "its other arguments have their own defaults"
                )
    return list(dict.fromkeys(lines))


def root_cause(error: BaseException) -> BaseException:
    """Return the first exception, without those of jsonargparse's attempts to read a value in other ways."""
    while isinstance(error, ValueError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def missing_config(path: Path) -> str:
    """Return an error message about a missing config file, with the files that exist."""
    folder = path.parent
    names = sorted(file.name for file in folder.glob("*.yaml")) if folder.is_dir() else []
    listed = f" in {folder}: {', '.join(names)}" if names else ""
    return f"no config file {path}{did_you_mean(path.name, names)}{listed}"


def _wrong_key(key: str, known: Iterable[str], given: list[str]) -> str:
    known = list(known)
    if "." not in key and (full := _with_group(key, known)):  # the message has a key in a group without the group
        key = full
    return f"no key '{key}'{did_you_mean(key, known)}{_where(key.split('.')[-1], given)}"


def _with_group(key: str, known: list[str]) -> str | None:
    """Return a key with the group of the most similar key: `trainer.max_epoch` for `max_epoch`."""
    near = get_close_matches(key, [name.rsplit(".", 1)[-1] for name in known], n=1, cutoff=0.6)
    full = next((name for name in known if near and name.endswith(f".{near[0]}")), None)
    return f"{full.rsplit('.', 1)[0]}.{key}" if full else None


def _where(word: str, given: list[str]) -> str:
    """Return the file and line of a key or a class, as ` [configs/mine.yaml:7]`, if it is from a file."""
    if any(word in argument.split("=")[0] for argument in given if argument.startswith("--")):
        return ""
    files = [b for a, b in pairwise(given) if a in ("--config", "-c")]
    files += [argument.split("=", 1)[1] for argument in given if argument.startswith("--config=")]
    for file in reversed(files):
        for number, line in enumerate(Path(file).read_text().splitlines(), 1):
            if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", line.split("#")[0]):
                return f" [{file}:{number}]"
    return ""


def _parameters(class_path: str) -> list[str]:
    names: list[str] = []
    for cls in inspect.getmro(import_path(class_path)):
        if "__init__" in vars(cls):
            parameters = inspect.signature(cls.__init__).parameters.values()
            names += [
                p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"
            ]
            if not any(p.kind == p.VAR_KEYWORD for p in parameters):
                break  # a class without **kwargs passes none to its bases
    return names


def _names(module: str) -> list[str]:
    return [name for name in dir(importlib.import_module(module)) if not name.startswith("_")]
