"""Find a checkpoint, read it without running its code, and load its weights."""

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kit.checkpoints import trust
from kit.config.annotations import import_path, parameter_annotations
from kit.ground import app
from kit.ground.checkpoint_limits import require_uncompressed
from kit.ground.errors import UserError, did_you_mean, one_line
from kit.ground.files import is_file

# Arguments that a model gets from the data module.
FROM_DATA = ("num_classes", "in_channels", "class_names", "class_counts", "most_objects", "several_labels")
# Arguments that depend on the machine. They come from the user or the defaults, never from a checkpoint.
MACHINE_ARGUMENTS = ("num_workers", "cache", "cache_dir", "compile")


def find(run_or_checkpoint: str) -> Path:
    """Return the checkpoint `checkpoints/best.ckpt` of a run folder, or the path itself if it is a file.

    Args:
        run_or_checkpoint: the path of a run folder or of a checkpoint file.

    Raises:
        UserError: there is no such checkpoint.
    """
    path = Path(run_or_checkpoint)
    file = path if is_file(path) else path / "checkpoints" / "best.ckpt"
    if is_file(file):
        return file
    if os.path.isdir(path):  # noqa: PTH112 (unlike `Path.is_dir`, it does not raise `OSError` for a long name)
        raise UserError(f"no checkpoint at {file}: is {path} a run folder, and did the run complete an epoch?")
    siblings = [str(p.parent) for p in path.parent.glob("*/checkpoints")]
    raise UserError(f"no run folder or checkpoint at {path.absolute()}{did_you_mean(str(path), siblings)}")


def require_run(folder: str) -> Path:
    """Return the path of a run's folder.

    Raises:
        UserError: there is no run at this path.
    """
    if not is_file(Path(folder, "config.yaml")):
        find(folder)  # if there is no run, raises an error that names similar ones
        raise UserError(f"{folder} is no run folder: it has no config.yaml")
    return Path(folder)


def run_folder_of(file: Path) -> Path:
    """Return the run folder of a checkpoint, or the file's own folder if the file is not in a folder `checkpoints`.

    The file may also be in a folder inside of `checkpoints`. Return the path itself if it is no file.
    """
    if not is_file(file):
        return file
    if len(file.parts) < 3:  # a relative path may not name these folders
        file = file.absolute()
    runs = [folder.parent for folder in (file.parent, file.parent.parent) if folder.name == "checkpoints"]
    return runs[0] if runs else file.parent


def read(file: Path) -> dict[str, Any]:
    """Return the content of a checkpoint: plain values, and tensors on the CPU.

    Raises:
        UserError: the file is not a checkpoint, is damaged or compressed, or contains objects that would run code.
    """
    try:
        require_uncompressed(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a file of unknown origin may raise any exception
        why = one_line(error).split(". ")[0]
        if isinstance(error, pickle.UnpicklingError):  # its message recommends `weights_only=False`
            why = "it holds more than plain values and tensors, or is damaged"
        raise UserError(f"{file} cannot be read as a checkpoint ({why})") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} is not a checkpoint: it holds a {type(content).__name__}")
    return content


def load(file: Path, trusted: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a checkpoint's content and config. Raise an error if building its objects would run untrusted code.

    The config differs from the checkpoint's: arguments of `FROM_DATA` that a class does not have are removed, and
    `download` is set to False.

    Args:
        file: the checkpoint.
        trusted: further packages, modules or names that the user trusts.

    Returns:
        the result of `read`, and the result of `config_of` with the changes above.

    Raises:
        UserError: the file cannot be read (see `read`), names something that is not trusted, or does not name its model
            or its data module.
    """
    content = read(file)
    trust.check_checkpoint(content, file, trusted)
    config = config_of(content)
    for key, kind in (("model", "LightningModule"), ("data", "LightningDataModule")):
        if key not in config:
            why = f"not made by `{app.command('fit')}`, or its {kind} does not call save_hyperparameters()"
            raise UserError(f"{file} does not name its {kind}: it was {why}")
    for part in config.values():
        parameters, arguments = parameter_annotations(import_path(part["class_path"])), part["init_args"]
        # The command line links all arguments of `FROM_DATA` to the model, and Lightning stores them even if the model
        # does not have them.
        part["init_args"] = {key: arguments[key] for key in arguments if key in parameters or key not in FROM_DATA}
        if "download" in parameters:
            part["init_args"]["download"] = False
    return content, config


def config_of(content: dict[str, Any]) -> dict[str, Any]:
    """Return the config of the model and the data module in a checkpoint, `{"model": ..., "data": ...}`.

    Arguments that depend on the machine are left out. In nested arguments, such as `net`, `pretrained` becomes False
    and `weights` None, since the checkpoint has these weights. The model's own `pretrained` and `weights` are not
    changed. Neither is its argument `features`, the net of style transfer, whose weights are not in the checkpoint.
    """
    config = {}
    for part, key in (("model", "hyper_parameters"), ("data", "datamodule_hyper_parameters")):
        values = dict(content.get(key) or {})
        if class_path := values.pop("_class_path", None):
            arguments = {key: values[key] for key in values if key not in ("_instantiator", *MACHINE_ARGUMENTS)}
            nested = {key: _without_pretrained(value) for key, value in arguments.items() if key != "features"}
            config[part] = {"class_path": class_path, "init_args": {**arguments, **nested}}
    return config


def data_state(content: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Return the state of the run's data module in a checkpoint: the class names, the mean and std, and others.

    Args:
        content, config: the results of `load`.
    """
    state = content.get(config["data"]["class_path"].rpartition(".")[2])
    return state if isinstance(state, dict) else {}


def _without_pretrained(value: Any) -> Any:
    """Return the same nested values, but with `pretrained` False, and `weights` None instead of a name or a file."""
    if isinstance(value, list):
        return [_without_pretrained(item) for item in value]
    if not isinstance(value, dict):
        return value
    defaults = {"pretrained": False, "weights": None}
    return {
        key: defaults[key] if key in defaults and (item is True or isinstance(item, str)) else _without_pretrained(item)
        for key, item in value.items()
    }


def load_weights(model: nn.Module, tensors: Any, file: Path) -> None:
    """Load tensors into a model.

    Args:
        tensors: the `state_dict` of a checkpoint.
        file: the checkpoint, for the error message.

    Raises:
        UserError: the names or shapes of the tensors differ from the model's.
    """
    try:
        model.load_state_dict(tensors)
    except Exception as error:  # a file of unknown origin may raise any exception
        raise UserError(f"{file}: the weights do not fit the model that it names: {one_line(error)}") from None
