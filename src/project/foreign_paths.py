"""Paths in the config of a run that is resumed: a stranger's could make the run write to, or delete, any file."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, get_args

import yaml

from project import UserError
from project.annotations import default_of, imported, of_parameters
from project.reading import parse_yaml, read_yaml
from project.run_folder import lies_in

# Of the data and the model, which read what the user's own config names; of the trainer, all paths count.
WRITTEN = ("data.cache_dir", "model.judges")
UNUSED = ("trainer.default_root_dir",)  # by a run that is resumed: it stays in its folder
NAMED = re.compile(r"(dir|directory|path|folder|root|location|uri)$")
# A text that is a path wherever it stands: absolute, with `..`, in a home folder, with a variable, or a URL.
WRITTEN_AS_PATH = re.compile(r"[/\\~]|[A-Za-z][\w+.-]*:|.*\$|(.*[/\\])?\.\.([/\\]|$)", re.DOTALL)
NEVER_INSIDE = re.compile(r"~|.*\$", re.DOTALL)  # some classes replace these by a folder, others do not


class Text(NamedTuple):
    """A text in a config.

    Args:
        key: with dots, without `init_args`.
        default: whether its class has it as default.
        path: whether its class takes it as a `Path`.
    """

    key: str
    value: str
    default: bool = False
    path: bool = False


def refuse_foreign_paths(config: dict[str, Any], args: list[str], run: Path) -> None:
    """Refuse to resume a run whose config names a path outside of the run's folder.

    Allowed are paths that stand on this command line as well, and defaults.

    Args:
        config: the parsed config, as nested dicts and lists.
        args: the command line that the user typed.

    Raises:
        UserError: there is such a path.
    """
    typed = list(_typed(args, run))
    for key, value, default, path in _texts(config, ""):
        known = re.sub(r"\[\d+\]", "", key)
        of_trainer = not known.startswith(("data.", "model.")) and "." in known and known not in UNUSED
        if default or not (known in WRITTEN or (of_trainer and (path or _is_path(known, value)))):
            continue
        if lies_in(value, run) and not NEVER_INSIDE.match(value):
            continue
        if not any(value == text.value and known.startswith(text.key) for text in typed):
            raise UserError(
                f"{run / 'config.yaml'}: {key} is {value!r}, which is not in the run's folder, and that file may be a "
                f"stranger's; to write there, give it on the command line, too: --{known} {value}"
            )


def _is_path(key: str, value: str) -> bool:
    return bool(WRITTEN_AS_PATH.match(value) or NAMED.search(key))


def _texts(values: Any, key: str, kind: Any = None) -> Iterator[Text]:
    """All texts below a key, those that name classes left out."""
    if isinstance(values, str):
        name = key.rpartition(".")[2]
        known = isinstance(kind, type)
        path = known and Path in (annotation := of_parameters(kind).get(name), *get_args(annotation))
        yield Text(key, values, known and default_of(kind, name) == values, path)
    elif isinstance(values, Path):
        yield Text(key, str(values), path=True)
    elif isinstance(values, list | tuple):
        for place, value in enumerate(values):
            yield from _texts(value, f"{key}[{place}]")
    elif isinstance(values, dict):
        path = values.get("class_path")
        inner = imported(path) if isinstance(path, str) else kind
        for name, value in values.items():
            if name in ("init_args", "dict_kwargs"):
                yield from _texts(value, key, inner)
            elif name != "class_path":
                yield from _texts(value, f"{key}.{name}".lstrip("."), kind)


def _typed(args: list[str], run: Path) -> Iterator[Text]:
    """The texts on a command line, and in the configs that it names, with the key that they were given for."""
    options = [argument.split("=", 1) for argument in args if argument.startswith("-") and "=" in argument]
    for key, value in [*pairwise(args), *options]:
        if not key.startswith("-"):
            continue
        name = key.lstrip("-").removesuffix("+").replace(".init_args", "")
        if name not in ("config", "c"):
            yield from (Text(name, text) for text in _leaves(_as_yaml(value)))
        elif not lies_in(value, run):  # the run's own, once more
            yield from (Text("", text) for text in _leaves(read_yaml(Path(value))))


def _leaves(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _leaves(value)


def _as_yaml(text: str) -> Any:
    try:
        return parse_yaml(text)
    except yaml.YAMLError:  # a file name may have any characters
        return text
