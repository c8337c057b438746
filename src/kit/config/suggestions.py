"""Suggest the key, class or option that the user probably meant, from known keys and the configs in `CONFIGS`."""

import shlex
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from kit.config.annotations import NN_MODULE, subclasses
from kit.ground import app
from kit.ground.errors import UserError, did_you_mean, one_line
from kit.ground.files import MAX_CONFIG_BYTES, read_text
from kit.ground.yaml_files import leaves

CONFIGS = Path("configs")
# Maps keys of other programs to the last parts of the keys here, where the two names are not similar.
SYNONYMS = {"device": "accelerator", "epochs": "max_epochs", "gpus": "devices", "learning_rate": "lr"}


def for_key(key: str, value: str | None, known: Sequence[str], model: type | None) -> str:
    """Return the end of an error message about a wrong key: the option that was probably meant, or the keys beside it.

    If only configs in `CONFIGS` have such a key, the message names these configs.

    Args:
        value: the key's value on the command line; None if the key is in a config.
        known: the keys that exist.
        model: the class of the model.
    """
    option = "" if value is None or "class_path" in value else f" {shlex.quote(value)}"
    if nearest := _nearest_key(key, known):
        return f"; did you mean --{nearest}{option}?"
    keys = {file: _nearest_key(key, list(run), 1.0) for file, run in _examples(None).items()}
    if files := [file for file in keys if keys[file]]:
        all_files = ", ".join(map(str, files))
        *_, file = [file for file in _examples(model) if file in files] or files  # for the same model, if possible
        return f"; did you mean --config {file} --{keys[file]}{option}? Configs with this key: {all_files}"
    group = key.rpartition(".")[0]
    siblings = [name.rpartition(".")[2] for name in known if group and name.rpartition(".")[0] == group]
    return f"; there are {', '.join(siblings)}" if siblings else "; --help lists the most important keys"


def for_word(word: str, value: str, known: Sequence[str], model: type | None) -> str:
    """Return an error message about a word that belongs to no option, with the option that was probably meant.

    Args:
        value: the next word.
        known: the keys that exist.
        model: the class of the model.
    """
    path, (key, sign, text) = Path(word), word.partition("=")
    if path.suffix in (".yaml", ".yml"):
        hint = f"; did you mean --config {word}?"
    elif path.parts[:1] == ("runs",) or (path / "config.yaml").is_file():
        hint = f"; did you mean --resume {word}, or {app.command('test')} {word}?"
    elif path.is_dir():
        hint = for_key("data.root", word, known, model)
    else:
        hint = for_key(key, text if sign else value, known, model)
    return f"'{word}' is no option; options are --KEY VALUE{hint}"


def for_class(key: str, text: str, kinds: Sequence[type], model: type | None) -> str:
    """Return an error message about a text that should name a class, with a class that was probably meant.

    Args:
        kinds: the class may be a subclass of one of these.
        model: the class of the model.
    """
    module_name, _, name = text.rpartition(".")
    if module_name:
        try:
            module = import_module(module_name)
        except Exception as error:  # importing a module may raise any exception
            return f"{key}: cannot import {module_name} ({one_line(error)})"
        if name in vars(module):
            return f"{key}: {text} is not a subclass of {' or '.join(kind.__name__ for kind in kinds)}"
        classes = {name: value for name, value in vars(module).items() if isinstance(value, type)}
        names = [name for name, value in classes.items() if issubclass(value, tuple(kinds))]
        all_names = f"; there are {', '.join(names)}" if 0 < len(names) < 10 else ""
        return f"{key}: no class '{text}'{did_you_mean(name, names) or all_names}"
    spellings = {} if NN_MODULE in kinds else {kind.__name__.lower(): kind.__name__ for kind in subclasses(kinds)}
    if matches := get_close_matches(text.lower(), spellings, n=1, cutoff=0.7):
        return f"{key}: no class '{text}'; did you mean '{spellings[matches[0]]}'?"
    runs = _examples(model).values()
    values = [run[key] for run in runs if run.get(key)]
    paths = {str(value[0] if isinstance(value, list) else value): None for value in values}
    examples = " or ".join(paths) or "package.module.Class"
    by_name = [f"; or --{key} {run[key]} --{key}.name {text}" for run in runs if f"{key}.name" in run]
    return f"{key} is '{text}', but must be the path of a class, such as {examples}{''.join(by_name[:1])}"


def missing_config(path: Path) -> str:
    """Return an error message about a missing config file, with the files that exist."""
    names = sorted(file.name for file in path.parent.glob("*.yaml"))
    existing = f"; {path.parent} has {', '.join(names)}" if names else ""
    return f"no config file {path}{did_you_mean(path.name, names)}{existing}"


def configs_without_pretraining(config: Path) -> list[Path]:
    """Return the configs for the same task as `config` that train on a folder and need no pretrained weights."""
    task = config.stem.partition("_")[0]  # such as `detection` for `detection_finetune.yaml`
    runs = {file: run for file, run in _examples(None, config.parent).items() if file.stem.startswith(task)}
    return [file for file, run in runs.items() if "data.root" in run and not run.get("model.net.pretrained")]


def _nearest_key(key: str, known: Sequence[str], cutoff: float = 0.75) -> str | None:
    """Return the known key whose last part is the same as in `key` or, if there is none, the most similar.

    Return None if no last part is similar. A key in the group of `key` is preferred. If `cutoff` is 1, the last part
    must be the same, and the known key must begin with the group of `key`.
    """
    key = key.lstrip("-").replace("-", "_")
    group, _, last = key.rpartition(".")
    last = SYNONYMS.get(last, last)
    names = [name for name in known if cutoff < 1 or name.startswith(group)]
    groups = {name.rpartition(".")[0] for name in known}
    last_names = {name.rpartition(".")[2] for name in names}
    for candidate in (last, *get_close_matches(last, last_names, n=1, cutoff=cutoff)):
        matches = [name for name in names if name.rpartition(".")[2] == candidate]
        if len(matches) > 1 and group in groups:  # such as `enabled`, which several callbacks have
            matches = [name for name in matches if name.startswith(group)]
        if matches:
            return min(matches, key=lambda name: (not name.startswith(group), name.count("."), name))
    return None


def _examples(model: type | None, folder: Path = CONFIGS) -> dict[Path, dict[str, Any]]:
    """Return the configs in a folder that are for a class of models, or all configs if `model` is None.

    Each file is mapped to a dict from its keys to their values or class paths.
    """
    runs: dict[Path, dict[str, Any]] = {}
    for file in sorted(folder.glob("*.yaml")):
        with suppress(UserError):  # leave out a config that cannot be read
            runs[file] = {key: value for key, value, _ in leaves(read_text(file, MAX_CONFIG_BYTES))}
    name = model.__name__ if model else ""
    return {file: run for file, run in runs.items() if str(run.get("model")).endswith(name)}
