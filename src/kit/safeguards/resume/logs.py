"""Cut TensorBoard's files back to the checkpoint from which a run resumes."""

import os
import shutil
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn

from kit.ground.files import replacing
from kit.safeguards.resume.writing import KEY


def log_sizes(trainer: L.Trainer, folder: Path) -> dict[str, int]:
    """Return the sizes of TensorBoard's files in the run's folder, in bytes.

    What is written later belongs to steps that a resumed run does again.
    """
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.save()
    return {str(file.relative_to(folder)): file.stat().st_size for file in _log_files(folder)}


class Rewind(L.Callback):
    """Remove what the run wrote after the checkpoint from which it resumes.

    This waits until the checkpoint has been restored and training begins, so that a `--resume` that fails earlier
    leaves the folder as it was.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self._logs = _log_files(run)  # listed now, since Lightning opens a new one before training begins
        self._sizes: dict[str, int] = {}
        self._done = False

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == TrainerFn.FITTING:  # and not when the best checkpoint is loaded for the test
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
        for part in (self.run / "checkpoints").glob("*.part*"):  # left by a run that was killed
            part.unlink()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove the log that Lightning opened before the checkpoint could not be restored."""
        if not self._done and trainer.is_global_zero:
            for file in set(_log_files(self.run)) - set(self._logs):
                file.unlink()


def _log_files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*tfevents*") if file.is_file()]


def _cut(file: Path, size: int) -> None:
    """Replace a file by a shorter copy. The file itself stays as it is, since it may have a second name elsewhere."""
    with replacing(file) as part:
        shutil.copyfile(file, part)
        os.truncate(part, size)
