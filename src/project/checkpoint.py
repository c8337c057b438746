"""A run, or a checkpoint, whoever made it: found, read without running its code, and described."""

import pickle
from pathlib import Path
from typing import Any

import torch

from project import UserError, nearest


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
    siblings = [str(p) for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UserError(f"no run folder or checkpoint at {path.absolute()}{nearest(str(path), siblings)}")


def read(file: Path) -> dict[str, Any]:
    """The checkpoint's content, on the CPU, plain values and tensors alone.

    Raises:
        UserError: the file is cut off, no checkpoint, holds objects that would run code, or is not self-describing.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, pickle.UnpicklingError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{file} cannot be read as a checkpoint ({first[:200]})") from None
    if not isinstance(content, dict) or "_class_path" not in (content.get("hyper_parameters") or {}):
        raise UserError(f"{file} does not say which model it holds: it was not made by `python -m project.fit`")
    return content


def config(content: dict[str, Any]) -> dict[str, Any]:
    """`{"model": ..., "data": ...}`, as in a config file, from what Lightning's command line keeps in a checkpoint."""
    parts = {"model": "hyper_parameters", "data": "datamodule_hyper_parameters"}
    found = {}
    for part, key in parts.items():
        values = dict(content.get(key, {}))
        values.pop("_instantiator", None)
        if "_class_path" in values:
            found[part] = {"class_path": values.pop("_class_path"), "init_args": values}
    net = found.get("model", {}).get("init_args", {}).get("net")
    if isinstance(net, dict) and net.get("init_args"):  # its weights stand in the checkpoint: nothing is to be fetched
        start = {key: value for key, value in (("pretrained", False), ("weights", None)) if key in net["init_args"]}
        found["model"]["init_args"]["net"] = {**net, "init_args": {**net["init_args"], **start}}
    return found
