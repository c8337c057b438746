"""Find the mistake in configs and a command line that the parser refuses, and explain it in one line.

The parser's own messages describe its internals. So `explain` reads the configs and the command line again, key by
key, and compares each value with the annotation of its key. `suggestions` says what was probably meant.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from kit.config import annotations, suggestions
from kit.config.annotations import Expected, accepts, default_of, import_path, parameter_annotations
from kit.config.arguments import scan, split_words
from kit.ground.files import MAX_CONFIG_BYTES, read_text
from kit.ground.yaml_files import leaves

PARAMS = "params"  # the optimizers' argument that the task passes, so that no config sets it
MAX_VALUE = 60  # the largest number of characters of a value in an error message
MAX_NAME = 200  # the largest number of characters of the name of a class or a file
# Parts of the parser's messages that describe its internals.
INTERNAL = re.compile(
    r"Parser key|Union|NoneType|Namespace|<class|Subtypes:|Errors:|Given value|Problem with given|implicit class_path|"
    "^Option '"
)


def explain(message: str, parser: ArgumentParser, configs: Sequence[str] = (), args: Sequence[str] = ()) -> str:
    """Return one line that explains why the parser refuses a command line.

    Args:
        message: the parser's error.
        configs: the config files of the command line.
        args: the rest of the command line.
    """
    checker = KeyChecker(parser)
    for file in configs:
        for key, value, line in leaves(read_text(Path(file), MAX_CONFIG_BYTES)):
            if mistake := checker.check(key, value):
                return f"{mistake} [{file}:{line}]"
    positional = [action for action in parser._actions if not action.option_strings]
    if words := [word[:MAX_NAME] for word in split_words(args)[0][len(positional) :]]:
        word, value = [*words, "VALUE"][:2]
        return suggestions.for_word(word, value, checker.known_keys(), checker.classes.get("model"))
    for option, text, _ in scan(args):
        key = option.removeprefix("--").removesuffix("+")
        # Skip words, and options that are no keys, such as --print_config.
        if not option or (key not in checker.keys and option in parser._option_string_actions):
            continue
        if text is None:
            return f"{option} needs a value: {option} VALUE"
        for name, value, _ in leaves(text or "''", key):  # an empty text is not null
            nested_text = value if isinstance(value, str) else json.dumps(value, default=str)
            if mistake := checker.check(name, value, text if name == key else nested_text):
                return mistake
    parents = re.findall(r'Parser key "([\w.]+)"', message)
    if missing := re.search(r"arguments are required: ([\w.]*\w)", message):
        key = ".".join([*parents, missing[1]])
        return f"{key} is missing: give it in the config or as --{key}"
    if keys := [key for key in checker.keys_without_class if key not in checker.classes]:
        return f"{keys[0]} names no class: add its class_path"
    lines = [line.strip(" -") for line in message.splitlines()]
    reason = next((line for line in reversed(lines) if line and not INTERNAL.search(line)), "")
    key = ".".join(parents) or "the config"
    return f"{key}: {reason}" if reason else f"{key} is not accepted; arguments of a class belong below its init_args"


class KeyChecker:
    """Check keys and values in the order in which the parser reads them.

    annotations: the annotation of each key of the parser.
    keys: the keys of the parser that a config or a command line can give.
    classes: the class of the object at each key, as far as keys have been read.
    keys_without_class: the keys for which arguments are given, but no class.
    """

    def __init__(self, parser: ArgumentParser) -> None:
        self.annotations = annotations.parser_annotations(parser)
        self.classes: dict[str, type] = {}
        self.keys_without_class: list[str] = []
        dests = [action.dest for action in parser._actions if not action.dest.endswith(".help")]
        self.keys = [dest for dest in dests if self._find_annotation(dest)]
        for key, value in vars(parser.get_defaults().as_flat()).items():
            if key.endswith(".class_path"):
                self.classes[key.removesuffix(".class_path").replace(".init_args", "")] = import_path(value)

    def known_keys(self) -> list[str]:
        """Return the keys of the parser, and the arguments of the classes in `classes`."""
        names = {key: parameter_annotations(kind) for key, kind in self.classes.items()}
        return self.keys + [f"{key}.{name}" for key in names for name in names[key] if name != PARAMS]

    def check(self, key: str, value: Any, text: str | None = None) -> str | None:
        """Return what is wrong with a key or its value, or None. text: the value as written on the command line."""
        annotation = self._find_annotation(key)
        if annotation is None:
            kind = self.classes.get(key.rpartition(".")[0])
            hint = suggestions.for_key(key, text, self.known_keys(), self.classes.get("model"))
            return f"no key '{key}'{f' of {kind.__name__}' if kind else ''}{hint}"
        if isinstance(annotation, dict):
            # A group may be null, or a file may have its keys.
            if (key and value is None) or (text and Path(text[:MAX_NAME]).is_file()):
                return None
            example = f"{key}.{next(iter(annotation))}".lstrip(".")
            return f"{key or 'the config'} is {_as_text(value)}, but must be keys with values, such as {example}"
        expected = Expected.any_of([annotation])
        classes = Expected.any_of(expected.items).classes if isinstance(value, list) else expected.classes
        names = [name for name in (value if isinstance(value, list) else [value]) if classes and isinstance(name, str)]
        for name in names:
            if kind := annotations.find_class(name, classes):
                self.classes[key] = kind
            elif not accepts(annotation, value):
                return suggestions.for_class(key, name[:MAX_NAME], classes, self.classes.get("model"))
        if names or accepts(annotation, value) or (text and key in self.keys and accepts(annotation, text)):
            return None
        lists = [f"[{value}]", f"[{value}, {value}]"] if expected.items and not isinstance(value, (list, dict)) else []
        hint = next((f": --{key} '{items}'" for items in lists if accepts(annotation, items)), "")
        return f"{key} is {_as_text(value)}, but must be {annotations.describe(annotation)}{hint}"

    def _find_annotation(self, key: str) -> Any:
        """Return the annotation of a key, or the annotations of a group; None if there is no such key.

        Return `Any` for a key of an unknown class or of a mapping. Also record default classes in `classes`, and keys
        whose class is missing in `keys_without_class`.
        """
        annotation, owner, path = self.annotations, None, ""
        for name in filter(None, key.split(".")):
            if not isinstance(annotation, dict):  # `name` is an argument of the class at `path`
                default = default_of(owner, path.rpartition(".")[2]) if owner else None
                owner = self.classes.setdefault(path, default) if isinstance(default, type) else self.classes.get(path)
                if owner is None:  # the class is unknown, or there is a mapping at `path`
                    expected = Expected.any_of([annotation])
                    self.keys_without_class += [path] if expected.classes and not expected.values else []
                    return Any if expected.classes or expected.values or expected.anything else None
                annotation = parameter_annotations(owner)
            if name not in annotation:
                return None
            annotation, path = annotation[name], f"{path}.{name}".lstrip(".")
        return annotation


def _as_text(value: Any) -> str:
    """Return a value as text, as in a config. A long text is cut."""
    text = f"'{value}'" if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}..."
