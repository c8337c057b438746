"""Decide which names in a checkpoint or a config of unknown origin may be imported and called.

The parser imports and calls every class path, and every dotted text where the annotation accepts a class or a function.
So the values of a file are checked first, by the same annotations. Each name must be the path of a class that the
annotation accepts. The class must be defined in the application, in other code of its checkout (see `own_code`) or in
this library, or be listed in `listed_classes`. Functions are refused, since most can do harm with some arguments.

With `--trust`, the user gives a name, or a module or package that contains it. Such a name need not be listed, and may
be the path of a function.

All other names are refused before their modules are imported.
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
from kit.checkpoints.own_code import is_own_class
from kit.config.annotations import NN_MODULE, Annotations, Expected, parameter_annotations, parse_value, subclasses
from kit.ground import app
from kit.ground.errors import UserError, one_line
from kit.ground.yaml_files import MAX_DEPTH, MAX_VALUES

PACKAGES = ("kit",)  # a file may name any class of these packages and of the application
# Keys of a checkpoint that describe an object, and the class of the object.
PARTS = {"hyper_parameters": L.LightningModule, "datamodule_hyper_parameters": L.LightningDataModule}
CLASS_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
MAX_ITEMS = 10_000  # the largest length of a list, such as `class_names`: the parser takes quadratic time


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
        values = {key: value for key, value in content[part].items() if key != "_instantiator"}  # no code reads it
        if "_class_path" in values:
            class_path = values.pop("_class_path")
            checker.check({"class_path": class_path, "init_args": values}, [kind], part)


def check_config(config: Any, annotations: Annotations, file: Path, trusted: Sequence[str] = ()) -> None:
    """Check the names in the config of a run.

    Args:
        config: the content of the run's config.yaml.
        annotations: the annotations of the config's keys: see `kit.config.annotations.parser_annotations`.
        file: the path of the run's config.yaml, for the error message.
        trusted: packages, modules or names that the user trusts.

    Raises:
        UserError: the config names something that is not trusted.
    """
    _Checker(file, trusted).check(config, [annotations], "")


class _Checker:
    """Check all values of a file. Error messages join nested keys by dots."""

    def __init__(self, file: Path, trusted: Sequence[str]) -> None:
        self.file, self.trusted = file, trusted
        self.count = 0  # the number of checked values

    def refuse(self, key: str, why: str) -> NoReturn:
        raise UserError(f"{self.file}: {key or 'the config'} {why}")

    def require_mapping(self, values: Any, key: str) -> None:
        if not isinstance(values, dict):
            self.refuse(key, f"is {_brief(values)}, but must map names to values")

    def check(self, value: Any, annotations: Sequence[Any], key: str, depth: int = 0) -> None:
        """Check a value.

        Args:
            value: the value.
            annotations: a list of annotations, one of which must match; or of one dict that maps keys to annotations.
            key: the key of the value, with dots.
            depth: the number of lists and mappings around the value.
        """
        self.count += 1
        if depth > MAX_DEPTH or self.count > MAX_VALUES:
            self.refuse(key[:100], "is nested too deeply, or too large")
        if isinstance(annotations[0], dict):
            self._check_group(value, annotations[0], key, depth)
            return
        if value is None or isinstance(value, (bool, int, float)):
            return
        expected = Expected.any_of(annotations)
        if isinstance(value, str):
            self._check_text(value, expected, annotations, key, depth)
        elif isinstance(value, (list, tuple)):
            if len(value) > MAX_ITEMS:
                self.refuse(key, f"is a list of {len(value):,} values, but may have at most {MAX_ITEMS:,}")
            for i, item in enumerate(value):
                self.check(item, expected.items or [Any], f"{key}[{i}]", depth + 1)
        elif not isinstance(value, dict):
            self.refuse(key, f"is {_brief(value)}, which is not a plain value")
        elif "class_path" in value:
            self._check_class(value, expected, key, depth)
        else:
            self._check_mapping(value, expected, key, depth)

    def _check_group(self, values: Any, annotations: Annotations, key: str, depth: int) -> None:
        """Check a group of keys, which must all be keys of the parser, and their values."""
        self.require_mapping(values, key)
        for name, value in values.items():
            if not isinstance(name, str) or name not in annotations:
                self.refuse(key, f"has the key {_brief(name)}, which `{app.command('fit')}` does not have")
            self.check(value, [annotations[name]], _join_key(key, name), depth + 1)

    def _check_text(self, text: str, expected: Expected, annotations: Sequence[Any], key: str, depth: int) -> None:
        """Check a text, which the parser may read as a list, a mapping, a class path or the path of a file."""
        if not (expected.anything or expected.classes or expected.items or expected.values):
            return  # never read as one of these
        value = parse_value(text)
        if isinstance(value, (dict, list)):  # the parser reads it in the same way
            self.check(value, annotations, key, depth + 1)
        elif expected.classes and CLASS_PATH.fullmatch(text):
            self._import_if_allowed(text, expected, key)
        elif not expected.text or any(kind.__name__ == text for kind in subclasses(expected.classes)):
            alternative = ", or a list" if expected.items else ""
            self.refuse(key, f"is {_brief(text)}, but must be a whole class path (package.module.Class){alternative}")
        elif expected.classes and any(os.path.isfile(folder / text) for folder in (Path(), self.file.parent)):  # noqa: PTH113
            self.refuse(key, f"is {_brief(text)}, which the parser would open as a file")

    def _check_mapping(self, values: dict[Any, Any], expected: Expected, key: str, depth: int) -> None:
        """Check a mapping without a class path: a dict, or the arguments of a dataclass."""
        annotations: Annotations = {}
        for kind in expected.classes:
            if not is_dataclass(kind):  # only a dataclass needs no class path
                self.refuse(key, "must give its class_path")
            annotations |= parameter_annotations(kind)
        for name, value in values.items():
            if str(name).startswith("__"):
                self.refuse(key, f"has the key {_brief(name)}, which only the parser itself may use")
            # The parser reads `a.b` as nested keys, and `a+` as an addition to a list.
            if not expected.values and ("." in str(name) or (annotations and name not in annotations)):
                self.refuse(key, f"has the key {_brief(name)}, which is not an argument: nest keys, without dots")
            accepted = [annotations[name]] if name in annotations else expected.values or [Any]
            self.check(value, accepted, _join_key(key, name), depth + 1)

    def _check_class(self, values: dict[Any, Any], expected: Expected, key: str, depth: int) -> None:
        """Check the mapping `{class_path: ..., init_args: ...}`, which describes an object."""
        path = values["class_path"]
        if not isinstance(path, str) or not CLASS_PATH.fullmatch(path):
            self.refuse(key, f"names {_brief(path)}, which is not a class path, such as package.module.Class")
        annotations = parameter_annotations(self._import_if_allowed(path, expected, key))
        for part, arguments in values.items():
            if part == "class_path":
                continue
            if part not in ("init_args", "dict_kwargs"):
                self.refuse(key, f"has {_brief(part)} beside class_path, where only init_args belong")
            self.require_mapping(arguments, f"{key}.{part}")
            for name, value in arguments.items():
                # The parser reads `a.b` as nested keys, so that `net.class_path` would replace the class of `net`.
                if not isinstance(name, str) or not name.isidentifier() or name.startswith("__"):
                    self.refuse(key, f"has an argument {_brief(name)}, which is not a name")
                self.check(value, [annotations.get(name, Any)], _join_key(key, name), depth + 1)

    def _import_if_allowed(self, path: str, expected: Expected, key: str) -> Any:
        """Import and return the object at a path. Refuse the path if this key must not name the object."""
        claim = f"names {_brief(path)}"
        module, _, name = path.rpartition(".")
        package = path.split(".")[0]
        is_trusted = any(f"{path}.".startswith(f"{prefix}.") for prefix in self.trusted)
        is_own = package in (app.package, *PACKAGES) and "._" not in path
        if not (is_trusted or is_own or is_listed(module, name) or is_own_class(path)):
            self.refuse(key, f"{claim}, {_reason_for_refusal(path)}")
        try:
            target = getattr(import_module(module), name)  # the name is known only at run time
        except (Exception, SystemExit) as error:  # importing a module may raise any exception
            earlier = "; was the file made by an earlier version? Then train again" if is_own else ""
            self.refuse(key, f"{claim}, which cannot be imported ({one_line(error)}){earlier}")
        is_class, classes = isinstance(target, type), tuple(expected.classes) or (NN_MODULE,)
        if is_class or isroutine(target):
            real_path = f"{target.__module__}.{target.__qualname__}"
            if real_path.split(".")[0] != package:  # the named module has only imported it
                self.refuse(key, f"{claim}, which is another name of {_brief(real_path)}")
        fits = issubclass(target, classes) if is_class else isinstance(target, classes)
        if not is_class and (isroutine(target) or (callable(target) and not fits)):
            if not is_trusted:
                self.refuse(key, f"{claim}, a function, where a class belongs; if you know it, add --trust {path}")
        elif not fits:
            required = " or ".join(dict.fromkeys(kind.__name__ for kind in classes))
            self.refuse(key, f"{claim}, which is not of the class {required}")
        return target


def _reason_for_refusal(path: str) -> str:
    """Return why a name is refused, and the option that allows it. No option is shown for Python's own modules."""
    package = path.split(".")[0]
    if package in (app.package, *PACKAGES) or any(listed.split(".")[0] == package for listed in LISTED):
        return f"which is not on the list of names that a file may use; if you know it, add --trust {path}"
    advice = "" if package in sys.stdlib_module_names else f"; if you trust its maker, add --trust {package}"
    return f"and {_brief(package)} is not trusted{advice}"


def _join_key(key: str, name: Any) -> str:
    return f"{key}.{_brief(name)[1:-1] if isinstance(name, str) else type(name).__name__}".lstrip(".")


def _brief(value: Any) -> str:
    """Return a short text for a value, in one line."""
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    return repr(value if len(value) <= 100 else f"{value[:100]}...")
