"""A run, or a checkpoint, whoever made it: found, read without running its code, and described."""

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
from kit.config.annotations import imported, of_parameters
from kit.ground import app
from kit.ground.errors import UserError, in_a_line, nearest
from kit.ground.reading import require_stored

# The arguments that the data give to a model that has them.
LEARNED = ("num_classes", "in_channels", "class_names", "class_counts", "most_objects")
# Arguments that depend on the machine. The user gives them, or the defaults hold, whatever the checkpoint says.
USERS = ("num_workers", "cache", "cache_dir", "judges", "compile")
DEEPEST, MOST_VALUES = 100, 10_000_000  # of lists and mappings; those that are repeated are counted each time
MOST_REPEATED = 2**20  # bytes of a tensor that repeats what it stores, as `expand` makes them
RESTORING = "checkpoint_connector.py"  # where Lightning puts a checkpoint's content back into its places


def find(run_or_checkpoint: str, name: str = "best") -> Path:
    """The checkpoint file that is meant by a run folder (its `checkpoints/NAME.ckpt`) or by a file."""
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
    raise UserError(f"no run folder or checkpoint at {path.absolute()}{nearest(str(path), siblings)}")


def run_of(file: Path) -> Path:
    """Return the run's folder if the checkpoint lies in or below a run's `checkpoints`, else the folder it lies in."""
    inside = [folder.parent for folder in (file.parent, file.parent.parent) if folder.name == "checkpoints"]
    return inside[0] if inside else file.parent


def read(file: Path) -> dict[str, Any]:
    """The checkpoint's content, on the CPU, plain values and tensors alone.

    Raises:
        UserError: the file is cut off or not a checkpoint, holds objects that would run code, or would take more memory
            than its size says.
    """
    try:
        require_stored(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
        _Holding(file.stat().st_size).require(content)
    except pickle.UnpicklingError:  # whose message advises to load it with its code
        why = "it holds more than plain values and tensors, or is damaged"
        raise UserError(f"{file} cannot be read as a checkpoint ({why})") from None
    except Exception as error:  # a file of anyone's: there is nothing that its bytes could not raise
        why = in_a_line(error).split(". ")[0]
        raise UserError(f"{file} cannot be read as a checkpoint ({why})") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} is no checkpoint: it holds a {type(content).__name__}")
    return content


class _Holding:
    """What a checkpoint holds, which must not take more memory than the file: when it is copied, or anywhere else.

    A pickle can say that a tensor has more numbers than it stores, and that a list holds another one many times.

    Args:
        size: of the file, in bytes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.storages: dict[int, int] = {}  # bytes, by place
        self.counted: dict[int, int] = {}  # values in each list and mapping, by identity; 0 while it is being counted

    def require(self, content: Any) -> None:
        """
        Raises:
            ValueError: it takes more.
        """
        if self._count(content, 0) > MOST_VALUES:
            raise ValueError(f"it holds more than {MOST_VALUES:,} values, with those that are repeated")
        if sum(self.storages.values()) > self.size:
            raise ValueError("its tensors are larger than the file")

    def _count(self, value: Any, depth: int) -> int:
        if isinstance(value, Tensor):
            self._add(value)
        if not isinstance(value, dict | list | tuple | set):
            return 1
        if depth > DEEPEST or self.counted.get(id(value)) == 0:
            raise ValueError("its values are nested too deeply")
        if id(value) not in self.counted:
            self.counted[id(value)] = 0
            inside = value.values() if isinstance(value, dict) else value
            self.counted[id(value)] = 1 + sum(self._count(one, depth + 1) for one in inside)
        return self.counted[id(value)]

    def _add(self, tensor: Tensor) -> None:
        if tensor.is_meta or tensor.is_nested or tensor.layout != torch.strided:
            raise ValueError("it holds a tensor that does not store all its numbers")
        storage = tensor.untyped_storage()
        if tensor.numel() * tensor.element_size() > max(storage.nbytes(), MOST_REPEATED):
            raise ValueError("it holds a tensor that does not store all its numbers")
        self.storages[storage.data_ptr()] = storage.nbytes()


def load(file: Path, trusted: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `read` and `config` give of a checkpoint that says what it holds, once it is sure that making the model and
    the data module runs no foreign code.

    Args:
        file: the checkpoint.
        trusted: the packages beside the project's own that the user vouches for.

    Raises:
        UserError: as of `read`; or the file names what it may not, or no model or no data module.
    """
    content = read(file)
    trust.check_checkpoint(content, file, trusted)
    found = config(content)
    for part, kind in (("model", "LightningModule"), ("data", "LightningDataModule")):
        if part not in found:
            raise UserError(
                f"{file} does not say of which {kind} it is: it was not made by `{app.command('fit')}`, or with a "
                f"{kind} that does not call save_hyperparameters()"
            )
    for part in found.values():
        part["init_args"] = _taken(**part)
    return content, found


def _taken(class_path: str, init_args: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a class that are taken from a checkpoint.

    Left out are those that depend on the machine, and those that the data gave to a model that does not have them
    (Lightning keeps all that the data give). Nothing is downloaded.
    """
    own = of_parameters(imported(class_path))
    ignored = {*USERS, *(key for key in LEARNED if key not in own)}
    kept = {key: value for key, value in init_args.items() if key not in ignored}
    # A painter's features are no part of its checkpoint, so they may have to be downloaded.
    taken = {key: value if key == "features" else _nothing_fetched(value) for key, value in kept.items()}
    return {**taken, "download": False} if "download" in own else taken


def _nothing_fetched(value: Any) -> Any:
    """Return the same nested values with every `pretrained` set to False."""
    if isinstance(value, dict):
        return {
            key: False if key == "pretrained" and inside is True else _nothing_fetched(inside)
            for key, inside in value.items()
        }
    return [_nothing_fetched(inside) for inside in value] if isinstance(value, list) else value


def fill(model: nn.Module, tensors: Any, file: Path) -> None:
    """Gives a model its tensors.

    Raises:
        UserError: they are not exactly the model's own, by name and shape.
    """
    own = model.state_dict()
    given = tensors if isinstance(tensors, dict) else {}
    shapes = {name: tensor.shape for name, tensor in given.items() if isinstance(tensor, Tensor)}
    wrong = [name for name, tensor in own.items() if shapes.get(name) != tensor.shape]
    wrong += [str(name)[:100] for name in given if name not in own]
    if wrong:
        raise UserError(
            f"{file}: the weights do not fit the model that it names: {len(wrong)} of {len(own)} tensors are missing, "
            f"of another shape or too many, as {wrong[0]!r}"
        )
    model.load_state_dict(tensors)


@contextmanager
def blamed(file: Path, failed: str, only_restoring: bool = False) -> Iterator[None]:
    """What a checkpoint makes go wrong is said in one line.

    Args:
        file: the checkpoint, or the run.
        failed: what could not be done: `cannot be tested`.
        only_restoring: leave alone what is raised elsewhere than where Lightning restores a checkpoint.

    Raises:
        UserError: anything was raised.
    """
    try:
        yield
    except (UserError, URLError):
        raise
    except Exception as error:
        places = traceback.extract_tb(error.__traceback__)
        if only_restoring and not any(place.filename.endswith(RESTORING) for place in places):
            raise
        where = f"{Path(places[-1].filename).name}:{places[-1].lineno}"
        raise UserError(f"{file} {failed}: {type(error).__name__}: {in_a_line(error)} [{where}]") from error


def config(content: dict[str, Any]) -> dict[str, Any]:
    """`{"model": ..., "data": ...}`, as in a config file, from what Lightning's command line keeps in a checkpoint."""
    parts = {"model": "hyper_parameters", "data": "datamodule_hyper_parameters"}
    found = {}
    for part, key in parts.items():
        values = dict(content.get(key) or {})
        values.pop("_instantiator", None)
        if "_class_path" in values:
            found[part] = {"class_path": values.pop("_class_path"), "init_args": values}
    net = found.get("model", {}).get("init_args", {}).get("net")
    if isinstance(net, dict) and net.get("init_args"):  # its weights stand in the checkpoint: nothing is to be fetched
        start = {key: value for key, value in (("pretrained", False), ("weights", None)) if key in net["init_args"]}
        found["model"]["init_args"]["net"] = {**net, "init_args": {**net["init_args"], **start}}
    return found
