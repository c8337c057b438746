"""Decide which names in a checkpoint or in a run's config, which may be a stranger's, may be imported and called.

The parser imports every class path, and every dotted text where a class or a function may stand, and calls what it
finds. So the file's values are checked first, against the annotations that the parser goes by. Each name must be that
of a class, of the kind that the annotation asks for, and the class must be the application's or this library's, or
stand in `LISTED`. No function may be named: with a stranger's arguments, most functions can do harm. Packages, modules
and names that the user gives with `--trust` are not restricted.

A name that is not listed is refused before its module is imported.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import is_dataclass
from importlib import import_module
from inspect import isroutine
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch

from kit.config.annotations import UNSAID, Expected, Kinds, of_parameters, parsed
from kit.ground import app
from kit.ground.errors import UserError, in_a_line
from kit.ground.reading import read_yaml

PACKAGES = ("kit",)  # all classes of these and of the application may be named, each where its kind belongs
EVERY = None
# The classes of libraries that may be named: they write no files, start no programs and download nothing. Exceptions
# are those that write a log, a profile or a checkpoint, which may write to the run's folder.
LISTED: dict[str, tuple[str, ...] | None] = {
    "torch": tuple(name for name, value in vars(torch).items() if isinstance(value, torch.dtype)),
    "torch.nn": EVERY,
    "torch.optim": EVERY,
    "torch.optim.lr_scheduler": EVERY,
    "torchvision.transforms.v2": EVERY,
    # Those that unpack archives, make folders or unpickle files are not among them.
    "torchvision.datasets": (
        *("CIFAR10", "CIFAR100", "Country211", "DTD", "EMNIST", "FashionMNIST", "FGVCAircraft", "Flowers102"),
        *("Food101", "GTSRB", "Imagenette", "KMNIST", "MNIST", "OxfordIIITPet", "QMNIST", "STL10", "SVHN"),
    ),
    "lightning.pytorch.callbacks": (
        *("BackboneFinetuning", "DeviceStatsMonitor", "EarlyStopping", "EMAWeightAveraging"),
        *("GradientAccumulationScheduler", "LearningRateMonitor", "ModelCheckpoint", "ModelSummary"),
        *("OnExceptionCheckpoint", "RichModelSummary", "RichProgressBar", "StochasticWeightAveraging"),
        *("ThroughputMonitor", "Timer", "TQDMProgressBar", "WeightAveraging"),
    ),
    "lightning.pytorch.loggers": ("CSVLogger", "TensorBoardLogger"),
    "lightning.pytorch.profilers": ("AdvancedProfiler", "SimpleProfiler"),
}
PARTS = {"hyper_parameters": L.LightningModule, "datamodule_hyper_parameters": L.LightningDataModule}
INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"  # what Lightning writes there, and we never call
CLASS_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
DEEPEST, MOST = 50, 100_000  # levels, and values
LONGEST, MOST_CLASSES = 1_000, 10_000  # items of a list: the parser's time grows with their square
OF_CLASSES = ("class_names", "class_counts")


def check_checkpoint(content: dict[str, Any], file: Path, trusted: Sequence[str] = ()) -> None:
    """Checks what the hyper-parameters in a checkpoint name.

    Args:
        content: as `kit.checkpoints.checkpoint.read` gives it.
        file: for the message.
        trusted: packages, or modules in them, that the user vouches for.

    Raises:
        UserError: something in it is no plain value, or names what it may not.
    """
    walk = _Walk(file, trusted)
    for part, kind in PARTS.items():
        values = content.get(part)
        if values is None:
            continue
        if not isinstance(values, dict):
            walk.refuse(part, f"is {_shown(values)}, but must map names to values")
        instantiator = values.get("_instantiator", INSTANTIATOR)
        if not isinstance(instantiator, str) or instantiator != INSTANTIATOR:
            walk.refuse(f"{part}._instantiator", f"is {_shown(instantiator)}, which is not Lightning's")
        if "_class_path" in values:
            rest = {key: value for key, value in values.items() if key not in ("_class_path", "_instantiator")}
            walk.value({"class_path": values["_class_path"], "init_args": rest}, [kind], part)


def check_config(file: Path, kinds: Kinds, trusted: Sequence[str] = ()) -> None:
    """The same for a run's config.yaml.

    Args:
        kinds: the annotations of its keys, see `kit.config.annotations.of_parser`.

    Raises:
        UserError: it cannot be read as a config, or names what it may not.
    """
    check_values(read_yaml(file), kinds, file, trusted)


def check_values(config: Any, kinds: Kinds, file: Path, trusted: Sequence[str] = ()) -> None:
    """The same for a config that was read from `file`."""
    _Walk(file, trusted).group(config, kinds, "")


class _Walk:
    """Through the values of a file. Keys are given with dots, as they nest."""

    def __init__(self, file: Path, trusted: Sequence[str]) -> None:
        self.file, self.trusted = file, trusted
        self.seen = 0

    def refuse(self, key: str, why: str) -> NoReturn:
        raise UserError(f"{self.file}: {key or 'the config'} {why}")

    def group(self, values: Any, kinds: Kinds, key: str) -> None:
        """Keys of the parser's own, whose values have no other."""
        if not isinstance(values, dict):
            self.refuse(key, f"is {_shown(values)}, but must map names to values")
        for name, value in values.items():
            if not isinstance(name, str) or name not in kinds:
                self.refuse(key, f"has the key {_shown(name)}, which `{app.command('fit')}` has not")
            self._below(value, kinds[name], _joined(key, name), 0)

    def value(self, value: Any, kinds: Sequence[Any], key: str, depth: int = 0) -> None:
        """A value where any of several annotations may hold."""
        self.seen += 1
        if depth > DEEPEST or self.seen > MOST:
            self.refuse(key[:100], "is nested too deeply, or too large")
        if value is None or isinstance(value, (bool, int, float)):
            return
        expected = Expected.by(kinds)
        if isinstance(value, str):
            self._text(value, expected, kinds, key, depth)
        elif isinstance(value, (list, tuple)):
            longest = MOST_CLASSES if key.endswith(OF_CLASSES) else LONGEST
            if len(value) > longest:
                self.refuse(key, f"is a list of {len(value):,} values, but {longest:,} are the most")
            for place, item in enumerate(value):
                self.value(item, expected.items or [Any], f"{key}[{place}]", depth + 1)
        elif not isinstance(value, dict):
            self.refuse(key, f"is {_shown(value)}, which is no plain value")
        elif "class_path" in value:
            self._class(value, expected, key, depth)
        else:
            self._mapping(value, expected, key, depth)

    def _below(self, value: Any, kind: Any, key: str, depth: int) -> None:
        if isinstance(kind, dict):
            self.group(value, kind, key)
        else:
            self.value(value, [kind], key, depth)

    def _text(self, text: str, expected: Expected, kinds: Sequence[Any], key: str, depth: int) -> None:
        if expected.only_text:
            return
        read = parsed(text)
        if isinstance(read, (dict, list)):  # the parser reads it so, too
            self.value(read, kinds, key, depth + 1)
        elif expected.classes and CLASS_PATH.fullmatch(text):
            self._named(text, expected, key)
        elif not expected.text:
            self.refuse(key, f"is {_shown(text)}, where a class path, as package.module.Class, or a list belongs")
        elif any(_has_subclass(kind, text) for kind in expected.classes):
            self.refuse(key, f"is {_shown(text)}, but must be the whole path of that class, as package.module.Class")
        elif expected.classes and any(_is_file(folder / text) for folder in (Path(), self.file.parent)):
            self.refuse(key, f"is {_shown(text)}, a file that the parser would read in its place")

    def _mapping(self, values: dict[Any, Any], expected: Expected, key: str, depth: int) -> None:
        kinds: Kinds = {}
        for kind in expected.classes:
            if not is_dataclass(kind):  # the only classes that are written without their path
                self.refuse(key, "must say its class_path")
            kinds |= of_parameters(kind)
        for name, value in values.items():
            if str(name).startswith("__"):
                self.refuse(key, f"has the key {_shown(name)}, which is the parser's own")
            if "." in str(name) and not expected.values:  # the parser nests such keys
                self.refuse(key, f"has the key {_shown(name)}, but keys are nested, not written with dots")
            if name in kinds:
                self._below(value, kinds[name], _joined(key, name), depth + 1)
            else:
                self.value(value, expected.values or [Any], _joined(key, name), depth + 1)

    def _class(self, values: dict[Any, Any], expected: Expected, key: str, depth: int) -> None:
        """`{class_path: ..., init_args: ...}`"""
        path = values["class_path"]
        if not isinstance(path, str) or not CLASS_PATH.fullmatch(path):
            self.refuse(key, f"names {_shown(path)}, which is no class path, as package.module.Class")
        called = self._named(path, expected, key)
        try:
            kinds = of_parameters(called)
        except Exception as error:  # it may be anyone's, and have any signature
            self.refuse(key, f"names {_shown(path)}, whose parameters cannot be found ({in_a_line(error)})")
        for part, arguments in values.items():
            if part == "class_path":
                continue
            if part not in ("init_args", "dict_kwargs"):
                self.refuse(key, f"has {_shown(part)} beside class_path, where only init_args belong")
            if not isinstance(arguments, dict):
                self.refuse(f"{key}.{part}", f"is {_shown(arguments)}, but must map names to values")
            for name, value in arguments.items():
                # The parser nests keys with dots: `net.class_path` would take the place of what `net` names.
                if not isinstance(name, str) or not name.isidentifier() or name.startswith("__"):
                    self.refuse(key, f"has an argument {_shown(name)}, which is no name")
                self._below(value, kinds.get(name, Any), _joined(key, name), depth + 1)

    def _named(self, path: str, expected: Expected, key: str) -> Any:
        """What a path names, if it may be named there."""
        names = f"names {_shown(path)}"
        classes = tuple(expected.classes) or (UNSAID,)
        module, _, name = path.rpartition(".")
        package = path.split(".")[0]
        vouched = any(f"{path}.".startswith(f"{prefix}.") for prefix in self.trusted)
        own = package in _own_packages() and "._" not in path
        if not (vouched or own or _listed(module, name)):
            self.refuse(key, f"{names}, {_untrusted(path)}")
        try:
            found = getattr(import_module(module), name)
        except (Exception, SystemExit) as error:  # importing runs a module, which is trusted, but may have faults
            earlier = "; was it made by an earlier version? Then train it again" if package == app.package else ""
            self.refuse(key, f"{names}, which cannot be imported ({in_a_line(error)}){earlier}")
        if isinstance(found, type) or isroutine(found):
            home = f"{found.__module__}.{found.__qualname__}"
            if home.split(".")[0] != package:
                self.refuse(key, f"{names}, but that is {_shown(home)}")
        if isinstance(found, type):
            if not any(_is_subclass(found, kind) for kind in classes):
                self.refuse(key, f"{names}, which is no {_kinds(classes)}")
        elif isroutine(found) or (callable(found) and not isinstance(found, classes)):
            if not vouched:
                self.refuse(key, f"{names}, a function, where a class belongs; {_vouching(path)}")
        elif not isinstance(found, classes):
            self.refuse(key, f"{names}, which is no {_kinds(classes)}")
        return found


def _listed(module: str, name: str) -> bool:
    """Return whether a class stands in `LISTED`, by its public path or that of its module (`torch.optim.sgd.SGD`)."""
    for listed, names in LISTED.items():
        inside = f"{module}.".startswith(f"{listed}.")
        if inside and (name in names if names is not EVERY else not name.startswith("_")):
            public = getattr(import_module(listed), name, None)
            if module == listed or (public and getattr(sys.modules.get(module), name, None) is public):
                return True
    return False


def _is_subclass(found: type, kind: type) -> bool:
    try:
        return issubclass(found, kind)
    except TypeError:  # a protocol that cannot be asked
        return False


def _has_subclass(kind: type, name: str) -> bool:
    """Return whether a name is that of a subclass, which the parser would accept without a module."""
    below: list[type] = type.__subclasses__(kind)
    return any(one.__name__ == name or _has_subclass(one, name) for one in below)


def _untrusted(path: str) -> str:
    """Return why a name is refused, and what to add to the command line; nothing to add for Python's own modules."""
    package = path.split(".")[0]
    if package in _own_packages() or any(listed.split(".")[0] == package for listed in LISTED):
        return f"which is not among what a file may name; {_vouching(path)}"
    advice = "" if package in sys.stdlib_module_names else f"; if you trust its maker, add --trust {package}"
    return f"and {_shown(package)} is not trusted{advice}"


def _vouching(path: str) -> str:
    return f"if you know what it does, add --trust {path}"


def _kinds(classes: Iterable[type]) -> str:
    return " or ".join(dict.fromkeys(kind.__name__ for kind in classes))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long for one
        return False


def _joined(key: str, name: Any) -> str:
    return f"{key}.{_shown(name)[1:-1] if isinstance(name, str) else type(name).__name__}".lstrip(".")


def _shown(value: Any) -> str:
    """In one line, and not too long."""
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    return repr(value if len(value) <= 100 else f"{value[:100]}...")


def _own_packages() -> tuple[str, ...]:
    return app.package, *PACKAGES
