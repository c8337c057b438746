"""Replace error messages of jsonargparse, which describe its internals, by one line for the user."""

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from kit.config.annotations import import_path, parameter_annotations
from kit.ground.errors import did_you_mean

MAX_WORD = 200  # characters; a longer word in a message is cut
MAX_LINE = 400  # characters
WRONG_KEY = r"(?:unrecognized arguments: (?:--)?|(?:Group '([\w.]+)' does not accept o|O)ption ')([\w.]+)"
WRONG_TYPE = r"Expected an? (?:typing\.Literal\[(.*?)\]|<class '(?:\w+\.)*(?!NoneType)(\w+)'>)|Not of type (an? .*?):"
# Lines of a message that do not help the user.
NOISE = re.compile(
    r"Parser key|Does not validate against|Subtypes:|Errors:|Problem with given class_path|Expected a path but|"
    r"Expected a <class 'NoneType'>|Given value|$"
)


def explain(message: str, keys: Iterable[str], configs: Sequence[str] = (), args: Sequence[str] = ()) -> str:
    """Return one line that explains an error message of jsonargparse.

    Args:
        message: the text of the error.
        keys: the keys of the parser, such as `trainer.max_epochs`.
        configs: the config files, to find the line of the mistake.
        args: the rest of the command line.
    """
    # Shorten long words, since the searches below may take quadratic time.
    message = re.sub(rf"(\S{{{MAX_WORD}}})\S+", r"\1...", message)
    message = re.sub(r"Type .*? expects a function or a callable class: ", "", message)
    parent = ".".join(re.findall(r'Parser key "([\w.]+)"', message))
    if match := re.search(WRONG_KEY, message):
        key = ".".join(filter(None, (parent, match[1], match[2])))
        owner = re.search(r"Got value: Namespace\(class_path='[\w.]+'", message)
        owners = owner[0] if owner else message.split("Given value")[0]
        classes = re.findall(r"class_path[' ]*[=:]? *'([\w.]+)'", owners)
        if not classes:
            return f"no key '{key}'{did_you_mean(key, keys)}{_location(match[2], configs, args)}"
        names = parameter_annotations(import_path(classes[-1]))
        return f"no key '{key}' of {classes[-1]}{did_you_mean(match[2], names)}{_location(match[2], configs, args)}"
    if match := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message):
        module, name = match.groups()
        near = did_you_mean(name, dir(import_module(module)))
        return f"no class '{module}.{name}'{near} (key {parent}){_location(name, configs, args)}"
    if match := re.search(r"the following arguments are required: ([\w.]+)", message):
        key = f"{parent}.{match[1]}".lstrip(".")
        return f"{key} is missing: give it in the config or as --{key}"
    value = re.search(r"(?:Got|Given) value: (.*?)(?:\. Got value|$)", message, re.MULTILINE)
    expected = [
        f"one of {choices}" if choices else kind or number for choices, kind, number in re.findall(WRONG_TYPE, message)
    ]
    if parent and value and expected:
        allowed = " or ".join(dict.fromkeys(expected)).replace("'", "")
        return f"{parent} is {value[1]!r}, but must be {allowed}{_location(parent, configs, args)}"
    lines = [line.strip(" -") for line in message.splitlines()]
    reasons = "; ".join(dict.fromkeys(line for line in lines if not NOISE.match(line)))
    return f"{parent}: {reasons}"[:MAX_LINE].removeprefix(": ")


def _location(key: str, configs: Sequence[str], args: Sequence[str]) -> str:
    """Return the location of a key or a class, such as ` [configs/mine.yaml:7]`, or "" if it is not in a config."""
    word = key.rpartition(".")[2]
    if not any(word in arg.split("=")[0] for arg in args if arg.startswith("--")):
        for file in reversed(configs):
            for number, line in enumerate(Path(file).read_text().splitlines(), 1):
                if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", line.split("#")[0]):
                    return f" [{file}:{number}]"
    return ""


def explain_kept_rates(kept_rates: Mapping[str, tuple[str, float]], flat: Mapping[str, Any]) -> list[str]:
    """Return a line for each optimizer that keeps the learning rate of the optimizer that it replaced.

    Args:
        kept_rates: see `reset_replaced_arguments`.
        flat: the final values of the config, by keys with dots.
    """
    lines = []
    for key, value in flat.items():
        if key.endswith(".class_path") and value in kept_rates:
            key, (old, rate) = key.removesuffix(".class_path"), kept_rates[value]
            if flat.get(f"{key}.init_args.lr") == rate:
                option, new = key.replace(".init_args", ""), value.rpartition(".")[2]
                lines.append(
                    f"{option}: {new} keeps the learning rate {rate:g} of {old.rpartition('.')[2]} (--{option}.lr "
                    "changes it); its other arguments have their own defaults"
                )
    return lines


def missing_config(path: Path) -> str:
    """Return an error message about a missing config file, with the files that exist."""
    names = sorted(file.name for file in path.parent.glob("*.yaml"))
    existing = f" in {path.parent}: {', '.join(names)}" if names else ""
    return f"no config file {path}{did_you_mean(path.name, names)}{existing}"
