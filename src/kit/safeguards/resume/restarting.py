"""`--resume`: which checkpoint a run goes on from, and whether it is still the same run."""

import os
import re
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jsonargparse import Namespace as JsonNamespace
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from kit.checkpoints import checkpoint
from kit.checkpoints.run_folder import is_inside
from kit.data.broken import NAMED
from kit.ground._torch import tree_leaves
from kit.ground.errors import UserError
from kit.ground.files import replacing
from kit.ground.threads import available_cores
from kit.safeguards.resume.resuming import KEY, log_files
from kit.safeguards.resume.writing import LAST, PREVIOUS, damage

# Where a run computes, how long, and what is seen of it: it stays the same run.
FREE = (
    *(f"trainer.{kind}_{what}" for kind in ("max", "min") for what in ("epochs", "steps")),
    *(f"trainer.{what}" for what in ("max_time", "accelerator", "devices", "num_nodes", "strategy", "profiler")),
    *(f"trainer.{what}" for what in ("logger", "enable_progress_bar", "enable_model_summary", "default_root_dir")),
    *(f"data.init_args.{what}" for what in ("root", "cache", "cache_dir", "num_workers", "download")),
    *("name", "check", "config", "exact_resume"),
    "model.init_args.net.init_args.weights",  # where the net started from; the checkpoint has its weights
)


WORKERS, DOWNLOAD = "data.init_args.num_workers", "data.init_args.download"
DEVICES, NODES = "trainer.devices", "trainer.num_nodes"


def run_folder(run_or_checkpoint: str) -> Path:
    path = Path(run_or_checkpoint).absolute()
    return checkpoint.run_folder_of(path) if path.is_file() else path


def choose(run_or_checkpoint: str) -> Path | None:
    """The newest checkpoint that is whole; None for a run that has none yet, which begins anew.

    Raises:
        UserError: there is no such run, or nothing of it is whole.
    """
    path = Path(run_or_checkpoint)
    if not path.is_file() and not (path / "config.yaml").is_file():
        checkpoint.find(run_or_checkpoint, "last")  # says what there is instead
        raise UserError(f"{path} has no config.yaml: it is not known how that run was started")
    files = [path] if path.is_file() else [path / "checkpoints" / name for name in (LAST, PREVIOUS)]
    files = [file for file in files if file.is_file()]
    for file in files:
        why = damage(file)
        if why is None:
            return file
        _warn(f"{file} is damaged ({why}) and is not used")
    if files:
        raise UserError(f"no checkpoint of {path} is whole: start the run anew with --config {path}/config.yaml")
    _warn(f"{path} was ended before its first checkpoint: it begins anew")
    return None


def suited(config: JsonNamespace, args: list[str], begun: bool) -> JsonNamespace:
    """Return the config of a resumed run, changed so that it fits this machine and downloads nothing.

    Args:
        config: the parsed config, which is not changed.
        args: the command line; what it says is left as it is.
        begun: whether there is a checkpoint, which has all weights of the net.

    Raises:
        UserError: the run had more devices than this machine has, or several machines, or would download weights.
    """
    typed = {argument.split("=")[0].lstrip("-").replace("init_args.", "") for argument in args}
    now = config.clone()
    workers, devices = now.get(WORKERS), now.get(DEVICES)
    if isinstance(workers, int) and workers > (cores := available_cores()) and "data.num_workers" not in typed:
        _warn(f"the run had {workers} workers, but this machine has {cores} cores: it goes on with {cores}")
        now[WORKERS] = cores
    most = max(available_cores(), torch.cuda.device_count())
    count = _number(devices)
    if count > most and DEVICES not in typed:
        raise UserError(f"the run had {count} devices, but this machine has {most}: give --trainer.devices N")
    nodes = now.get(NODES)
    if isinstance(nodes, int) and nodes > 1 and NODES not in typed:
        raise UserError(f"the run had {nodes} machines, for which it would wait: give --trainer.num_nodes {nodes} or 1")
    if now.get(DOWNLOAD) and "data.download" not in typed:
        now[DOWNLOAD] = False  # the run had its data
    for key in _pretrained(config.as_dict().get("model"), "model"):
        known = re.sub(r"init_args\.|\[\d+\]", "", key)
        if known in typed:
            continue
        if not (begun and known.startswith("model.net.") and key in now):  # what stands in a list cannot be replaced
            raise UserError(
                f"{known} is true in the run's config, which downloads weights; to allow this, add --{known} true"
            )
        now[key] = False
        norms = f"{key.removesuffix('pretrained')}fixed_norms"
        if norms in now and now[norms] is None:  # which a start from weights decides
            now[norms] = True
    return now


def refuse_foreign_start(trainer: L.Trainer) -> None:
    """Refuse to begin a run with the checkpoint of another one.

    Where there is an `OnExceptionCheckpoint`, Lightning begins with the newest file that it, or a `ModelCheckpoint`
    with `save_last`, has left in its `dirpath`.

    Raises:
        UserError: there is such a file.
    """
    on_exception = [one for one in trainer.callbacks if isinstance(one, OnExceptionCheckpoint)]  # type: ignore[attr-defined]
    files = [Path(callback.ckpt_path) for callback in on_exception]
    for callback in trainer.checkpoint_callbacks if on_exception else []:
        if isinstance(callback, ModelCheckpoint) and callback.save_last and callback.dirpath:
            files += Path(callback.dirpath).glob(f"{callback.CHECKPOINT_NAME_LAST}*.ckpt")
    for file in files:
        if file.is_file():
            raise UserError(
                f"{file} is of another run, and with OnExceptionCheckpoint this run would begin with it: move it away, "
                "or give the callback another dirpath; --resume goes on with a run"
            )


def _pretrained(values: Any, key: str) -> Iterator[str]:
    """Yield the key of each `pretrained` that is true, however deep in dicts and lists."""
    if isinstance(values, dict):
        for name, value in values.items():
            if name == "pretrained" and value is True:
                yield f"{key}.{name}"
            yield from _pretrained(value, f"{key}.{name}")
    elif isinstance(values, list):
        for place, value in enumerate(values):
            yield from _pretrained(value, f"{key}[{place}]")


def _number(devices: Any) -> int:
    """Return how many devices are meant, as Lightning reads `2`, `'2'`, `'0,1'` or a list; 1 for `auto`."""
    if isinstance(devices, list):
        return len(devices)
    try:
        return int(devices)
    except (TypeError, ValueError):
        return str(devices).count(",") + 1


def refuse_another_config(before: Namespace, now: Namespace, force: bool) -> bool:
    """Whether they differ in what makes the result.

    Args: two parsed command lines, that of the run and that with which it goes on.

    Raises:
        UserError: they do, and nobody said `--force`.
    """
    old, new = vars(before), vars(now)
    keys = [key for key in old | new if old.get(key) != new.get(key)]
    told = [
        f"{key.replace('.init_args', '')} was {old.get(key)!r} and is now {new.get(key)!r}"
        for key in keys
        if not any(key == free or key.startswith(f"{free}.") for free in FREE)
    ]
    return _refuse("config", told, force)


def refuse_other_data(content: dict[str, Any], datamodule: Any, force: bool) -> bool:
    """The same for the data, as far as a glance tells: classes, and each split's number, names, sizes and labels.

    Args: content: of the checkpoint.

    Raises:
        UserError: they differ, and nobody said `--force`.
    """
    before = content.get(type(datamodule).__qualname__) or {}
    if "fingerprint" not in before:  # not a data module of ours
        return False
    now = {"classes": {"names": datamodule.class_names}, **datamodule.fingerprint}
    then = {"classes": {"names": before["class_names"]}, **before["fingerprint"]}
    told = []
    for split in now | then:
        old, new = then.get(split, {"samples": 0}), now.get(split, {"samples": 0})
        changed = [key for key in old | new if old.get(key) != new.get(key)]
        if "samples" in changed:
            names = _otherwise_left_out(
                *(each.get(split, {}) for each in (before.get("left_out", {}), datamodule.left_out))
            )
            told.append(f"{split} had {old['samples']} samples and now has {new['samples']}{names}")
        elif changed:
            told.append(f"{split} has other {' and '.join(changed)}")
    return _refuse("data", told, force)


def _otherwise_left_out(then: dict[str, str], now: dict[str, str]) -> str:
    """Name the files of a split that could not be decoded then but can be now, and the reverse, in brackets.

    They are compared by name, since the data may have been moved.
    """
    old, new = ({Path(file).name for file in files} for files in (then, now))
    kinds = ((old - new, "could not be decoded"), (new - old, "cannot be decoded now"))
    told = "; ".join(f"{', '.join(sorted(names)[:NAMED])} {what}" for names, what in kinds if names)
    return f" ({told})" if told else ""


def check(trainer: L.Trainer, datamodule: Any, last: Path | None, force: bool) -> None:
    """Check that the data, and the number of epochs that the user wants, fit the checkpoint `last`.

    Raises:
        UserError: they do not, or the checkpoint cannot be resumed from.
    """
    content = checkpoint.read(last) if last else {}
    if last and KEY not in content:
        raise UserError(f"{last} was written without exact_resume: it can be tested, but not resumed")
    refuse_other_data(content, datamodule, force)
    if any(isinstance(count, float) for count in tree_leaves(content.get("loops"))):
        raise UserError(f"{last} cannot be gone on with: its counts of steps are no whole numbers")
    done, wanted = content.get("epoch", 0), trainer.max_epochs
    if wanted not in (None, -1) and done > wanted:
        raise UserError(f"trainer.max_epochs is {wanted}, but {done} epochs are done already")


class Rewind(L.Callback):
    """Remove what the run wrote after the checkpoint from which it resumes.

    This waits until the checkpoint has been restored and training begins, so that a `--resume` that fails earlier
    leaves the folder as it was.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self._logs = log_files(run)  # listed now, since Lightning opens a new one before training begins
        self._sizes: dict[str, int] = {}
        self._done = False

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == TrainerFn.FITTING:  # and not for the best checkpoint, which is loaded for the test
            self._sizes = {name: int(size) for name, size in checkpoint[KEY]["log"].items()}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._rewind(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._rewind(trainer)  # if all epochs were done already, training does not start, but a test follows

    def _rewind(self, trainer: L.Trainer) -> None:
        if self._done or not trainer.is_global_zero:
            return
        self._done = True
        for file in self._logs:
            size = self._sizes.get(str(file.relative_to(self.run)))
            if size is None:
                file.unlink()
            elif file.stat().st_size > size:
                _cut(file, max(0, size))
        for part in (self.run / "checkpoints").glob("*.part"):  # a run that was killed leaves these
            if part.is_file():
                part.unlink()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove the log that Lightning opened before the checkpoint could not be restored."""
        if not self._done and trainer.is_global_zero:
            for file in set(log_files(self.run)) - set(self._logs):
                file.unlink()


def _cut(file: Path, size: int) -> None:
    """Cut a file to so many bytes. One that has a second name, which may lie anywhere, is cut in a copy."""
    if file.stat().st_nlink > 1:
        with replacing(file) as part:
            shutil.copyfile(file, part)
            os.truncate(part, size)
    else:
        os.truncate(file, size)


def keep_foreign_files(trainer: L.Trainer, run: Path) -> None:
    """Keep Lightning from removing files outside of the run's folder and of the callbacks' configured folders.

    A callback's state in a checkpoint names files that the callback removes when it has better ones, and the checkpoint
    may be a stranger's. All callbacks remove files through the strategy, where Lightning has no hook.
    """
    remove = trainer.strategy.remove_checkpoint

    def remove_own(filepath: Any) -> None:
        configured = (getattr(callback, "dirpath", None) for callback in trainer.checkpoint_callbacks)
        folders = [run, *filter(None, configured)]
        if any(is_inside(filepath, folder) and not is_inside(folder, filepath) for folder in folders):
            remove(filepath)
        else:
            _warn(f"{filepath} is not removed: the checkpoint names it, but it is not in the run's folder")

    trainer.strategy.remove_checkpoint = remove_own  # type: ignore[method-assign]


def _refuse(what: str, differences: list[str], force: bool) -> bool:
    if differences and not force:
        raise UserError(
            f"--resume with another {what} is another run: {'; '.join(differences)}. Start a new one, or go on all the "
            "same with --force true"
        )
    if differences:
        _warn(f"another {what} from here on: {'; '.join(differences)}")
    return bool(differences)


def _warn(text: str) -> None:
    rank_zero_only(print)(f"warning: {text}", file=sys.stderr, flush=True)
