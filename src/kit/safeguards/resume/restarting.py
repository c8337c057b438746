"""`--resume`: find the checkpoint of a run, and check that the config and the data are the same."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jsonargparse import Namespace as JsonNamespace
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder, ModelCheckpoint, OnExceptionCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from kit.checkpoints import checkpoint
from kit.checkpoints.run_folder import is_inside
from kit.data import ImageDataModule
from kit.ground import app
from kit.ground._torch import tree_leaves
from kit.ground.errors import UserError
from kit.ground.threads import available_cores
from kit.safeguards.resume.writing import KEY, LAST, PREVIOUS, find_damage
from kit.training.weights import hash_tensors, read_weights

NET = "model.init_args.net.init_args"
# Config keys that may change when a run is resumed: the run's length, its patience, the hardware, what is shown, and
# where files are. If the length or the number of processes changes, `ExactResume` prints the effect on the run.
# `precision_change` does the same for the precision.
CHANGEABLE = (
    *(f"trainer.{key}" for key in ("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "accelerator")),
    *(f"trainer.{key}" for key in ("devices", "num_nodes", "strategy", "profiler", "logger", "default_root_dir")),
    *(f"trainer.{key}" for key in ("precision", "enable_progress_bar", "enable_model_summary")),
    *(f"data.init_args.{key}" for key in ("root", "cache", "cache_dir", "num_workers", "download")),
    *("name", "check", "config", "exact_resume", "early_stopping.patience"),
    "auto_precision",  # a resumed run does not choose its precision by measuring
)

FINDER_MESSAGE = "it trains before the run is set up; instead, try some values in short runs (--trainer.max_epochs 1)"
# Callbacks of Lightning that change a run before it starts, and what to do instead.
REFUSED_CALLBACKS = {
    OnExceptionCheckpoint: "the next run would start from its file; --resume RUN continues after an exception",
    BatchSizeFinder: FINDER_MESSAGE,
    LearningRateFinder: FINDER_MESSAGE,
}


def changed_at(run_or_checkpoint: str) -> int:
    """Return when a checkpoint of the run was last made, renamed or removed, in nanoseconds, or 0 if there is none.

    If `choose` was called before this time, its result may not be the newest checkpoint.
    """
    try:
        return (checkpoint.run_folder_of(Path(run_or_checkpoint).absolute()) / "checkpoints").stat().st_mtime_ns
    except OSError:  # also if a name is too long: `choose` raises the error
        return 0


def choose(run_or_checkpoint: str) -> Path | None:
    """Return the newest undamaged checkpoint, or None if the run has none yet and starts from the beginning.

    Raises:
        UserError: there is no such run, or all its checkpoints are damaged.
    """
    path = Path(run_or_checkpoint)
    files = [path]
    if not path.is_file():
        folder = checkpoint.require_run(run_or_checkpoint) / "checkpoints"
        files = [folder / name for name in (LAST, PREVIOUS) if (folder / name).is_file()]
    for file in files:
        if (why := find_damage(file)) is None:
            return file
        _warn(f"{file} is damaged ({why}) and is not used")
    if files:
        run = checkpoint.run_folder_of(path.absolute())
        best, remedy = run / "checkpoints" / "best.ckpt", f"start the run again with --config {run / 'config.yaml'}"
        if best not in files and find_damage(best) is None:
            remedy = f"continue from the best checkpoint with --resume {best}, or {remedy}"
        raise UserError(f"{' and '.join(map(str, files))} cannot be read: {remedy}")
    _warn(f"{path} was stopped before its first checkpoint: the run starts from the beginning")
    return None


def without_pretraining(config: JsonNamespace) -> JsonNamespace:
    """Return a copy of a config whose net loads no weights to start from, since the checkpoint replaces them."""
    config = config.clone()
    pretrained, weights, frozen_norms = (f"{NET}.{key}" for key in ("pretrained", "weights", "frozen_norms"))
    if (config.get(pretrained) or config.get(weights)) and frozen_norms in config and config[frozen_norms] is None:
        config[frozen_norms] = True  # the default of a net that starts from weights
    if config.get(pretrained):
        config[pretrained] = False
    if isinstance(config.get(weights), str):
        config[weights] = None
    return config


def refuse_callbacks(trainer: L.Trainer) -> None:
    """Raise `UserError` if the trainer has a callback of `REFUSED_CALLBACKS`."""
    for kind, why in REFUSED_CALLBACKS.items():
        if any(isinstance(callback, kind) for callback in trainer.callbacks):  # type: ignore[attr-defined]
            raise UserError(f"leave out {kind.__name__}: {why}")


def config_differences(old_config: Namespace, new_config: Namespace) -> list[str]:
    """Return the differences between two flat configs, except in values that may change: see `CHANGEABLE`.

    The file of the weights that the net starts from may be elsewhere, but it must have the same weights.

    Args:
        old_config: the config of the stopped run.
        new_config: the config of the resumed run.
    """
    old, new = vars(old_config), vars(new_config)
    weights = f"{NET}.weights"
    path_may_differ = old.get(weights) and new.get(weights) and old[weights] != new[weights]
    if path_may_differ and old.get("weights_sha256"):
        path_may_differ = hash_tensors(read_weights(new[weights]).tensors) == old["weights_sha256"]
    changeable = (*CHANGEABLE, weights) if path_may_differ else CHANGEABLE
    return [
        f"{key.replace('.init_args', '')} was {old.get(key)!r} and is now {new.get(key)!r}"
        for key in old | new
        if old.get(key) != new.get(key) and not any(f"{key}.".startswith(f"{prefix}.") for prefix in changeable)
    ]


def precision_change(old_config: Namespace, new_config: Namespace) -> str:
    """Return a sentence about a changed precision, or "" if it is the same. The arguments are flat configs."""
    old, new = (vars(config).get("trainer.precision") or "32-true" for config in (old_config, new_config))
    change = f"the precision was {old} and is now {new}: the weights differ from those of an uninterrupted run"
    return change if str(old) != str(new) else ""


def refuse_other_data(content: dict[str, Any], datamodule: Any, force: bool) -> None:
    """Refuse to continue if the classes or the samples of a split differ from those in the checkpoint: see `refuse`.

    Parts of a fingerprint that the checkpoint lacks are not compared, and a note says so: it is of an earlier version.

    Args:
        content: the content of the checkpoint, or an empty dict if there is none yet.
    """
    state = content.get(type(datamodule).__qualname__) or {}
    if "fingerprint" not in state:  # there is no checkpoint yet, or the data module is not an `ImageDataModule`
        return
    # The class names are compared like a split.
    new_parts = {"classes": {"names": datamodule.class_names}, **datamodule.fingerprint}
    old_parts = {"classes": {"names": state["class_names"]}, **state["fingerprint"]}
    differences, unknown = [], dict[str, None]()
    for part in new_parts | old_parts:
        old, new = old_parts.get(part, {"samples": 0}), new_parts.get(part, {"samples": 0})
        changed = [key for key in old if old[key] != new.get(key)]
        unknown |= dict.fromkeys(new.keys() - old.keys() if not changed else ())
        if "samples" in changed:
            differences.append(f"{part} had {old['samples']} samples and now has {new['samples']}")
        elif changed:
            differences.append(f"the {' and '.join(changed)} of {part} differ")
    if unknown:
        why = "the checkpoint is of an earlier version, which did not store them"
        rank_zero_only(print)(f"whether the {' and '.join(unknown)} changed is not checked: {why}")
    refuse("data", differences, force)


def check(trainer: L.Trainer, datamodule: Any, file: Path | None, force: bool) -> None:
    """Check that a run can continue from a checkpoint, if there is one, and limit the number of workers to the cores.

    Raises:
        UserError: the machine has too few devices, the data differ, the checkpoint cannot be resumed, or the run is
            complete.
    """
    cores = available_cores()
    if trainer.num_devices > (limit := max(cores, torch.cuda.device_count())):
        raise UserError(f"the run has {trainer.num_devices} devices, this machine has {limit}: add --trainer.devices N")
    if isinstance(datamodule, ImageDataModule) and (datamodule.num_workers or 0) > cores:
        _warn(f"the run had {datamodule.num_workers} workers: it continues with {cores}, one for each core")
        datamodule.num_workers = cores
    content = checkpoint.read(file) if file else {}
    if file and KEY not in content:  # `ExactResume` writes this entry
        raise UserError(f"{file} was written without exact_resume: it can be tested, but not resumed")
    refuse_other_data(content, datamodule, force)
    if isinstance(datamodule, ImageDataModule):  # set the size now, since Lightning restores it only after `setup`
        datamodule.use_size((content.get(type(datamodule).__qualname__) or {}).get("size"))
    if any(isinstance(count, float) for count in tree_leaves(content.get("loops"))):
        raise UserError(f"{file} cannot be resumed: it is broken, since its counts of steps are not integers")
    if file and ((run := checkpoint.run_folder_of(file.absolute())) / "results.json").is_file():
        loop = content["loops"]["fit_loop"]
        epochs = loop["epoch_progress"]["current"]["processed"] + loop["epoch_loop.batch_progress"]["is_last_batch"]
        for key, count in {"max_epochs": epochs, "max_steps": content["global_step"]}.items():
            if 0 < (getattr(trainer, key) or 0) <= count:
                options = f"raise --trainer.{key} to continue, or measure it with `{app.command('test')} {run}`"
                raise UserError(f"{run} is complete ({epochs} epoch{'s' * (epochs != 1)}): {options}")


def limit_file_removal(trainer: L.Trainer, run: Path) -> None:
    """Let callbacks remove files only in the run's folder and in the folders that the config names.

    A checkpoint has the states of callbacks. Such a state may name files, which the callback removes later in the
    resumed run. A checkpoint from a stranger could name any file. Lightning has no hook for this, so the strategy's
    method is replaced.
    """
    remove = trainer.strategy.remove_checkpoint

    def remove_if_inside(filepath: Any) -> None:
        callbacks = (callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint))
        folders: list[Any] = [run, *filter(None, (callback.dirpath for callback in callbacks))]
        if any(is_inside(filepath, folder) and not is_inside(folder, filepath) for folder in folders):
            remove(filepath)
        else:
            _warn(f"{filepath} is not removed: it is outside of the run's folder")

    trainer.strategy.remove_checkpoint = remove_if_inside  # type: ignore[method-assign]


def refuse(kind: str, differences: list[str], force: bool) -> None:
    """Refuse to continue if there are differences.

    Args:
        kind: what differs, "config", "data" or "weights".
        differences: a text for each difference.
        force: whether the user has added `--force true`. If so, only print the differences, as a warning.

    Raises:
        UserError: there are differences, and `force` is False.
    """
    if differences and not force:
        remedy = "Start a new run, or continue anyway with --force true"
        raise UserError(f"--resume needs the same {kind}: {'; '.join(differences)}. {remedy}")
    if differences:
        _warn(f"the run continues, although its {kind} changed: {'; '.join(differences)}")


def _warn(text: str) -> None:
    rank_zero_only(print)(f"warning: {text}", file=sys.stderr, flush=True)
