"""Refuse paths outside of the run's folder in the config of a resumed run.

The config of a run from elsewhere could otherwise make the run write or delete any file.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from kit.checkpoints.run_folder import is_inside
from kit.config.annotations import default_of, import_path, parameter_annotations, parse_value
from kit.ground._torch import tree_leaves
from kit.ground.errors import UserError
from kit.ground.yaml_files import read_yaml

# The keys of data and model whose paths are written to; other paths of these are only read. All paths of the trainer
# count.
WRITTEN_KEYS = ("data.cache_dir", "model.judges")
UNUSED_KEYS = ("trainer.default_root_dir",)  # a resumed run stays in its folder
PATH_KEYS = re.compile(r"(dir|directory|path|folder|root|location|uri)$")
# Texts that count as paths at any key: absolute, with `..`, in a home folder, with a variable, or a URL.
PATH_TEXTS = re.compile(r"[/\\~]|[A-Za-z][\w+.-]*:|.*\$|(.*[/\\])?\.\.([/\\]|$)", re.DOTALL)
NEVER_INSIDE = re.compile(r"~|.*\$", re.DOTALL)  # some classes replace `~` and variables


def refuse_foreign_paths(config: dict[str, Any], args: list[str], run: Path) -> None:
    """Refuse to resume a run whose config names a path outside of the run's folder.

    Defaults are allowed, and so are paths that the user gives on this command line.

    Args:
        config: the parsed config, as nested dicts and lists.
        args: the command line.

    Raises:
        UserError: the config names such a path.
    """
    given = list(_given_texts(args, run))
    for key, value, is_path in _texts(config, ""):
        option = re.sub(r"\[\d+\]", "", key)
        of_trainer = not option.startswith(("data.", "model.")) and "." in option and option not in UNUSED_KEYS
        is_written = of_trainer and (is_path or PATH_TEXTS.match(value) or PATH_KEYS.search(option))
        if not is_written and option not in WRITTEN_KEYS:
            continue
        if is_inside(value, run) and not NEVER_INSIDE.match(value):
            continue
        if not any(value == text and option.startswith(prefix) for prefix, text in given):
            raise UserError(
                f"{run / 'config.yaml'}: {key} is {value!r}, which is not in the run's folder, and this config may be "
                f"a stranger's; to let the run write there, add --{option} {value}"
            )


def _texts(values: Any, key: str, kind: Any = None) -> Iterator[tuple[str, str, bool]]:
    """Yield all texts below a key, except class paths and the defaults of arguments.

    Args:
        kind: the class whose arguments `values` are, or None.

    Yields:
        the text's key, with dots and without `init_args`; the text; whether its argument is annotated as a `Path`
    """
    if isinstance(values, str):
        name = key.rpartition(".")[2]
        annotation = parameter_annotations(kind).get(name) if isinstance(kind, type) else None
        if not isinstance(kind, type) or default_of(kind, name) != values:
            yield key, values, Path in (annotation, *get_args(annotation))
    elif isinstance(values, Path):
        yield key, str(values), True
    elif isinstance(values, list | tuple):
        for index, value in enumerate(values):
            yield from _texts(value, f"{key}[{index}]")
    elif isinstance(values, dict):
        class_path = values.get("class_path")
        inner = import_path(class_path) if isinstance(class_path, str) else kind
        for name, value in values.items():
            if name in ("init_args", "dict_kwargs"):
                yield from _texts(value, key, inner)
            elif name != "class_path":
                yield from _texts(value, f"{key}.{name}".lstrip("."), kind)


def _given_texts(args: list[str], run: Path) -> Iterator[tuple[str, Any]]:
    """Yield the values on a command line with their keys, and with "" those in the configs that it names."""
    options = [argument.split("=", 1) for argument in args if argument.startswith("-") and "=" in argument]
    for key, value in [*pairwise(args), *options]:
        if key in ("--config", "-c"):
            values = [] if is_inside(value, run) else read_yaml(Path(value))  # not the config of the run itself
            yield from (("", text) for text in tree_leaves(values))
        elif key.startswith("-"):
            name = key.lstrip("-").removesuffix("+").replace(".init_args", "")
            yield from ((name, text) for text in tree_leaves(parse_value(value)))
