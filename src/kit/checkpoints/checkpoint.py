"""Find a checkpoint, read it without running its code, and load its weights."""

import pickle
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from kit.checkpoints import trust
from kit.config.annotations import import_path, parameter_annotations
from kit.ground import app
from kit.ground.checkpoint_limits import require_stored
from kit.ground.errors import UserError, did_you_mean, one_line

# The arguments of a model that the data set.
FROM_DATA = ("num_classes", "in_channels", "class_names", "class_counts", "most_objects")
# Arguments that depend on the machine. They are not taken from a checkpoint, but from the user or the defaults.
MACHINE_ARGUMENTS = ("num_workers", "cache", "cache_dir", "compile")
MAX_DEPTH, MAX_VALUES = 100, 10_000_000  # of lists and mappings; repeated ones count each time
MAX_REPEATED_BYTES = 2**20  # of a tensor with more numbers than it stores, as by `expand`
RESTORING = "checkpoint_connector.py"  # the file of Lightning that restores a checkpoint


def find(run_or_checkpoint: str, name: str = "best") -> Path:
    """Return the checkpoint of a run folder, `checkpoints/NAME.ckpt`, or the path itself if it is a file.

    Raises:
        UserError: there is no such checkpoint.
    """
    path = Path(run_or_checkpoint)
    if path.is_file():
        return path
    file = path / "checkpoints" / f"{name}.ckpt"
    if file.is_file():
        return file
    if path.is_dir():
        raise UserError(f"no checkpoint at {file}: is {path} a run folder, and did the run end an epoch?")
    if path.exists():
        raise UserError(f"{path} is neither a run folder nor a file that holds a checkpoint")
    siblings = [str(p) for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UserError(f"no run folder or checkpoint at {path.absolute()}{did_you_mean(str(path), siblings)}")


def run_folder_of(file: Path) -> Path:
    """Return the folder of a checkpoint's run if the file is in or below `checkpoints`, else its own folder."""
    runs = [folder.parent for folder in (file.parent, file.parent.parent) if folder.name == "checkpoints"]
    return runs[0] if runs else file.parent


def read(file: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, on the CPU. It consists of plain values and tensors only.

    Raises:
        UserError: the file is not a checkpoint or is cut off, contains objects that would run code, or would take more
            memory than its file has bytes.
    """
    try:
        require_stored(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
        _ContentLimits(file.stat().st_size).check(content)
    except pickle.UnpicklingError:  # its message advises to load the file with its code
        why = "it holds more than plain values and tensors, or is damaged"
        raise UserError(f"{file} cannot be read as a checkpoint ({why})") from None
    except Exception as error:  # a file of unknown origin may raise any exception
        why = one_line(error).split(". ")[0]
        raise UserError(f"{file} cannot be read as a checkpoint ({why})") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} is no checkpoint: it holds a {type(content).__name__}")
    return content


class _ContentLimits:
    """Check that the content of a checkpoint does not take more memory than its file, also when it is copied.

    In a pickle, a tensor can have more numbers than it stores, and a list can contain another one many times.

    Args:
        size: the size of the file in bytes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.storages: dict[int, int] = {}  # bytes, by address
        self.counted: dict[int, int] = {}  # number of values in each list and mapping, by id; 0 during counting

    def check(self, content: Any) -> None:
        """Raise an error if the content exceeds the limits.

        Raises:
            ValueError: it has too many values, or its tensors are larger than the file.
        """
        if self._count(content, 0) > MAX_VALUES:
            raise ValueError(f"it holds more than {MAX_VALUES:,} values, with those that are repeated")
        if sum(self.storages.values()) > self.size:
            raise ValueError("its tensors are larger than the file")

    def _count(self, value: Any, depth: int) -> int:
        if isinstance(value, Tensor):
            self._add(value)
        if not isinstance(value, dict | list | tuple | set):
            return 1
        if depth > MAX_DEPTH or self.counted.get(id(value)) == 0:
            raise ValueError("its values are nested too deeply")
        if id(value) not in self.counted:
            self.counted[id(value)] = 0
            items = value.values() if isinstance(value, dict) else value
            self.counted[id(value)] = 1 + sum(self._count(item, depth + 1) for item in items)
        return self.counted[id(value)]

    def _add(self, tensor: Tensor) -> None:
        if tensor.is_meta or tensor.is_nested or tensor.layout != torch.strided:
            raise ValueError("it holds a tensor that does not store all its numbers")
        storage = tensor.untyped_storage()
        if tensor.numel() * tensor.element_size() > max(storage.nbytes(), MAX_REPEATED_BYTES):
            raise ValueError("it holds a tensor that does not store all its numbers")
        self.storages[storage.data_ptr()] = storage.nbytes()


def load(file: Path, trusted: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the content of a checkpoint and its config, after a check that building them runs no foreign code.

    Args:
        file: the checkpoint.
        trusted: packages that the user trusts, beside the application's own.

    Returns:
        the results of `read` and `config_of`

    Raises:
        UserError: see `read`; or the file names something that is not trusted, or no model or no data module.
    """
    content = read(file)
    trust.check_checkpoint(content, file, trusted)
    config = config_of(content)
    for key, kind in (("model", "LightningModule"), ("data", "LightningDataModule")):
        if key not in config:
            raise UserError(
                f"{file} does not say of which {kind} it is: it was not made by `{app.command('fit')}`, or with a "
                f"{kind} that does not call save_hyperparameters()"
            )
    for part in config.values():
        part["init_args"] = _usable_arguments(**part)
    return content, config


def _usable_arguments(class_path: str, init_args: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a class that are taken from a checkpoint.

    Arguments that depend on the machine are left out. So are arguments from the data that the model does not have, as
    Lightning stores all of them. Downloads are switched off.
    """
    parameters = parameter_annotations(import_path(class_path))
    ignored = {*MACHINE_ARGUMENTS, *(key for key in FROM_DATA if key not in parameters)}
    arguments = {key: value for key, value in init_args.items() if key not in ignored}
    # The features of a style are not in its checkpoint, so they may have to be downloaded.
    usable = {key: value if key == "features" else _without_downloads(value) for key, value in arguments.items()}
    return {**usable, "download": False} if "download" in parameters else usable


def _without_downloads(value: Any) -> Any:
    """Return the same nested values with every `pretrained` set to False."""
    if isinstance(value, dict):
        return {
            key: False if key == "pretrained" and item is True else _without_downloads(item)
            for key, item in value.items()
        }
    return [_without_downloads(item) for item in value] if isinstance(value, list) else value


def load_weights(model: nn.Module, tensors: Any, file: Path) -> None:
    """Load tensors into a model.

    Args:
        tensors: the `state_dict` of a checkpoint.
        file: the checkpoint, for the error message.

    Raises:
        UserError: the names and shapes are not exactly those of the model.
    """
    expected = model.state_dict()
    stored = tensors if isinstance(tensors, dict) else {}
    shapes = {name: tensor.shape for name, tensor in stored.items() if isinstance(tensor, Tensor)}
    mismatches = [name for name, tensor in expected.items() if shapes.get(name) != tensor.shape]
    mismatches += [str(name)[:100] for name in stored if name not in expected]
    if mismatches:
        raise UserError(
            f"{file}: the weights do not fit the model that it names: {len(mismatches)} of {len(expected)} tensors are "
            f"missing, of another shape or too many, as {mismatches[0]!r}"
        )
    model.load_state_dict(tensors)


@contextmanager
def one_line_errors(file: Path, failed: str, only_restoring: bool = False) -> Iterator[None]:
    """Replace any exception by a `UserError` of one line that names a checkpoint.

    Args:
        file: the checkpoint, or the run.
        failed: what failed, as `cannot be tested`.
        only_restoring: replace exceptions only if Lightning raises them while it restores a checkpoint.

    Raises:
        UserError: the code in the context raised an exception.
    """
    try:
        yield
    except (UserError, URLError):
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        if only_restoring and not any(frame.filename.endswith(RESTORING) for frame in frames):
            raise
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
        raise UserError(f"{file} {failed}: {type(error).__name__}: {one_line(error)} [{where}]") from error


def config_of(content: dict[str, Any]) -> dict[str, Any]:
    """Return the config of the model and the data in a checkpoint, `{"model": ..., "data": ...}`, as in a file."""
    keys = {"model": "hyper_parameters", "data": "datamodule_hyper_parameters"}
    config = {}
    for part, key in keys.items():
        values = dict(content.get(key) or {})
        values.pop("_instantiator", None)
        if "_class_path" in values:
            config[part] = {"class_path": values.pop("_class_path"), "init_args": values}
    net = config.get("model", {}).get("init_args", {}).get("net")
    if isinstance(net, dict) and net.get("init_args"):  # its weights are in the checkpoint, not elsewhere
        defaults = {key: value for key, value in (("pretrained", False), ("weights", None)) if key in net["init_args"]}
        config["model"]["init_args"]["net"] = {**net, "init_args": {**net["init_args"], **defaults}}
    return config
