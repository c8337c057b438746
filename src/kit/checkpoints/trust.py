"""Decide which names in a checkpoint or a config of unknown origin may be imported and called.

The parser imports every class path, and every dotted text for which the annotation accepts a class or a function, and
calls the result. So the values of a file are checked first, by the same annotations. Each name must be that of a class
of the kind that the annotation requires, and the class must be the application's, this library's, or in
`listed_classes`. Functions are refused, since most can do harm with some arguments. Packages, modules and names that
the user gives with `--trust` are not restricted.

A name that is not listed is refused before its module is imported.
"""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import is_dataclass
from importlib import import_module
from inspect import isroutine
from pathlib import Path
from typing import Any, NoReturn

import lightning as L

from kit.checkpoints.listed_classes import LISTED, is_listed
from kit.config.annotations import ANY_MODULE, Annotations, Expected, parameter_annotations, parse_value
from kit.ground import app
from kit.ground.errors import UserError, one_line

PACKAGES = ("kit",)  # all classes of these packages and of the application may be named, each at a key of its kind
PARTS = {"hyper_parameters": L.LightningModule, "datamodule_hyper_parameters": L.LightningDataModule}
INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"  # Lightning writes this name, which is never called here
CLASS_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
MAX_DEPTH, MAX_VALUES = 50, 100_000
MAX_ITEMS, MAX_CLASSES = 1_000, 10_000  # of a list: the parser's time grows with the square of its length
CLASS_KEYS = ("class_names", "class_counts")


def check_checkpoint(content: dict[str, Any], file: Path, trusted: Sequence[str] = ()) -> None:
    """Check the names in the hyper-parameters of a checkpoint.

    Args:
        content: the result of `kit.checkpoints.checkpoint.read`.
        file: the checkpoint, for the error message.
        trusted: packages, modules or names that the user trusts.

    Raises:
        UserError: a value is not plain, or names something that is not trusted.
    """
    checker = _Checker(file, trusted)
    for part, kind in PARTS.items():
        if content.get(part) is None:
            continue
        checker.require_mapping(content[part], part)
        values = {"_instantiator": INSTANTIATOR, **content[part]}
        instantiator = values.pop("_instantiator")
        if not isinstance(instantiator, str) or instantiator != INSTANTIATOR:
            checker.refuse(f"{part}._instantiator", f"is {_shown(instantiator)}, which is not Lightning's")
        if "_class_path" in values:
            class_path = values.pop("_class_path")
            checker.value({"class_path": class_path, "init_args": values}, [kind], part)


def check_config(config: Any, kinds: Annotations, file: Path, trusted: Sequence[str] = ()) -> None:
    """Check the names in the config of a run.

    Args:
        config: the content of its config.yaml.
        kinds: the annotations of its keys: see `kit.config.annotations.parser_annotations`.
        file: its config.yaml, for the error message.
        trusted: packages, modules or names that the user trusts.

    Raises:
        UserError: the config names something that is not trusted.
    """
    _Checker(file, trusted).value(config, [kinds], "")


class _Checker:
    """Check all values of a file. Nested keys are written with dots in its messages."""

    def __init__(self, file: Path, trusted: Sequence[str]) -> None:
        self.file, self.trusted = file, trusted
        self.count = 0  # of values that were checked

    def refuse(self, key: str, why: str) -> NoReturn:
        raise UserError(f"{self.file}: {key or 'the config'} {why}")

    def require_mapping(self, values: Any, key: str) -> None:
        if not isinstance(values, dict):
            self.refuse(key, f"is {_shown(values)}, but must map names to values")

    def value(self, value: Any, kinds: Sequence[Any], key: str, depth: int = 0) -> None:
        """Check a value for which any of several annotations may hold. A dict of annotations is that of a group."""
        self.count += 1
        if depth > MAX_DEPTH or self.count > MAX_VALUES:
            self.refuse(key[:100], "is nested too deeply, or too large")
        if isinstance(kinds[0], dict):
            self._group(value, kinds[0], key, depth)
            return
        if value is None or isinstance(value, (bool, int, float)):
            return
        expected = Expected.any_of(kinds)
        if isinstance(value, str):
            self._text(value, expected, kinds, key, depth)
        elif isinstance(value, (list, tuple)):
            limit = MAX_CLASSES if key.endswith(CLASS_KEYS) else MAX_ITEMS
            if len(value) > limit:
                self.refuse(key, f"is a list of {len(value):,} values, but {limit:,} are the most")
            for i, item in enumerate(value):
                self.value(item, expected.items or [Any], f"{key}[{i}]", depth + 1)
        elif not isinstance(value, dict):
            self.refuse(key, f"is {_shown(value)}, which is no plain value")
        elif "class_path" in value:
            self._class(value, expected, key, depth)
        else:
            self._mapping(value, expected, key, depth)

    def _group(self, values: Any, kinds: Annotations, key: str, depth: int) -> None:
        """Check the values of a group of keys, which must all be keys of the parser."""
        self.require_mapping(values, key)
        for name, value in values.items():
            if not isinstance(name, str) or name not in kinds:
                self.refuse(key, f"has the key {_shown(name)}, which `{app.command('fit')}` has not")
            self.value(value, [kinds[name]], _joined(key, name), depth + 1)

    def _text(self, text: str, expected: Expected, kinds: Sequence[Any], key: str, depth: int) -> None:
        if expected.only_text:
            return
        value = parse_value(text)
        if isinstance(value, (dict, list)):  # the parser reads it so too
            self.value(value, kinds, key, depth + 1)
        elif expected.classes and CLASS_PATH.fullmatch(text):
            self._import(text, expected, key)
        elif not expected.text:
            self.refuse(key, f"is {_shown(text)}, where a class path, as package.module.Class, or a list belongs")
        elif any(_has_subclass(kind, text) for kind in expected.classes):
            self.refuse(key, f"is {_shown(text)}, but must be the whole path of that class, as package.module.Class")
        elif expected.classes and any(os.path.isfile(folder / text) for folder in (Path(), self.file.parent)):  # noqa: PTH113
            self.refuse(key, f"is {_shown(text)}, a file that the parser would read in its place")

    def _mapping(self, values: dict[Any, Any], expected: Expected, key: str, depth: int) -> None:
        kinds: Annotations = {}
        for kind in expected.classes:
            if not is_dataclass(kind):  # the only classes that need no path
                self.refuse(key, "must say its class_path")
            kinds |= parameter_annotations(kind)
        for name, value in values.items():
            if str(name).startswith("__"):
                self.refuse(key, f"has the key {_shown(name)}, which is the parser's own")
            # The parser nests keys with dots, and appends the value of a key with `+` to a list.
            if not expected.values and ("." in str(name) or (kinds and name not in kinds)):
                self.refuse(key, f"has the key {_shown(name)}, which is no argument: nest keys, without dots")
            of_value = [kinds[name]] if name in kinds else expected.values or [Any]
            self.value(value, of_value, _joined(key, name), depth + 1)

    def _class(self, values: dict[Any, Any], expected: Expected, key: str, depth: int) -> None:
        """Check `{class_path: ..., init_args: ...}`."""
        path = values["class_path"]
        if not isinstance(path, str) or not CLASS_PATH.fullmatch(path):
            self.refuse(key, f"names {_shown(path)}, which is no class path, as package.module.Class")
        target = self._import(path, expected, key)
        try:
            kinds = parameter_annotations(target)
        except Exception as error:  # the class may be anyone's, and have any signature
            self.refuse(key, f"names {_shown(path)}, whose parameters cannot be found ({one_line(error)})")
        for part, arguments in values.items():
            if part == "class_path":
                continue
            if part not in ("init_args", "dict_kwargs"):
                self.refuse(key, f"has {_shown(part)} beside class_path, where only init_args belong")
            self.require_mapping(arguments, f"{key}.{part}")
            for name, value in arguments.items():
                # The parser nests keys with dots, so that `net.class_path` would replace the class of `net`.
                if not isinstance(name, str) or not name.isidentifier() or name.startswith("__"):
                    self.refuse(key, f"has an argument {_shown(name)}, which is no name")
                self.value(value, [kinds.get(name, Any)], _joined(key, name), depth + 1)

    def _import(self, path: str, expected: Expected, key: str) -> Any:
        """Import the object at a path, if it may be named at this key."""
        names = f"names {_shown(path)}"
        module, _, name = path.rpartition(".")
        package = path.split(".")[0]
        is_trusted = any(f"{path}.".startswith(f"{prefix}.") for prefix in self.trusted)
        is_own = package in (app.package, *PACKAGES) and "._" not in path
        if not (is_trusted or is_own or is_listed(module, name)):
            self.refuse(key, f"{names}, {_untrusted(path)}")
        try:
            target = getattr(import_module(module), name)  # the path decides the name
        except (Exception, SystemExit) as error:  # the module is trusted, but may raise any exception
            earlier = "; was it made by an earlier version? Then train it again" if package == app.package else ""
            self.refuse(key, f"{names}, which cannot be imported ({one_line(error)}){earlier}")
        is_class, classes = isinstance(target, type), tuple(expected.classes) or (ANY_MODULE,)
        if is_class or isroutine(target):
            home = f"{target.__module__}.{target.__qualname__}"
            if home.split(".")[0] != package:
                self.refuse(key, f"{names}, but that is {_shown(home)}")
        fits = any(_is_of(target, kind) for kind in classes)
        if not is_class and (isroutine(target) or (callable(target) and not fits)):
            if not is_trusted:
                self.refuse(key, f"{names}, a function, where a class belongs; if you know it, add --trust {path}")
        elif not fits:
            self.refuse(key, f"{names}, which is no {' or '.join(dict.fromkeys(kind.__name__ for kind in classes))}")
        return target


def _is_of(target: Any, kind: type) -> bool:
    """Return whether an object is a subclass or an instance of a class."""
    try:
        return issubclass(target, kind) if isinstance(target, type) else isinstance(target, kind)
    except TypeError:  # a protocol without this check
        return False


def _has_subclass(kind: type, name: str) -> bool:
    """Return whether a class has a subclass of this name, which the parser would accept without a module."""
    subclasses: list[type] = type.__subclasses__(kind)
    return any(subclass.__name__ == name or _has_subclass(subclass, name) for subclass in subclasses)


def _untrusted(path: str) -> str:
    """Return why a name is refused, and what to add to the command line (nothing for Python's own modules)."""
    package = path.split(".")[0]
    if package in (app.package, *PACKAGES) or any(listed.split(".")[0] == package for listed in LISTED):
        return f"which is not among what a file may name; if you know what it does, add --trust {path}"
    advice = "" if package in sys.stdlib_module_names else f"; if you trust its maker, add --trust {package}"
    return f"and {_shown(package)} is not trusted{advice}"


def _joined(key: str, name: Any) -> str:
    return f"{key}.{_shown(name)[1:-1] if isinstance(name, str) else type(name).__name__}".lstrip(".")


def _shown(value: Any) -> str:
    """Return a value in one short line."""
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    return repr(value if len(value) <= 100 else f"{value[:100]}...")
