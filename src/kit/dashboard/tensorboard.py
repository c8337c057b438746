"""Log to TensorBoard: the logger, and a run's row in the table of runs."""

import functools
import io
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torch.utils.tensorboard.summary import hparams

from kit.checkpoints.checkpoint import MACHINE_ARGUMENTS
from kit.dashboard.history import read_settings
from kit.dashboard.report import is_of_class
from kit.ground.terminal import escape_controls
from kit.safeguards import Checkpoint

JPEG_QUALITY = 88
# Parts of the config, and arguments in it, that do not change the result.
NOT_LOGGED = ("config", "name", "resume", "force", "check", "dashboard")
NOT_LOGGED_ARGUMENTS = (*MACHINE_ARGUMENTS, "logger", "default_root_dir")


def _warn_on_full_disk(method: Callable[..., None]) -> Callable[..., None]:
    """Make a method run only in the first process, and only warn if the disk is full."""

    @rank_zero_only
    @functools.wraps(method)
    def write(logger: "TensorBoard", *args: Any, **kwargs: Any) -> None:
        try:
            method(logger, *args, **kwargs)
        except (OSError, ValueError) as error:
            cause = error.__cause__ or error  # Lightning replaces any exception by a ValueError
            if not isinstance(cause, OSError):
                raise
            logger._experiment = None  # the writer's thread has ended; the next point starts a new file
            if not logger.has_lost_points:
                problem = f"could not be written ({cause.strerror}); training goes on, points of the log are lost"
                print(f"warning: {logger.log_dir} {problem}", file=sys.stderr, flush=True)
            logger.has_lost_points = True

    return write


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, but a full disk only causes a warning, and `config.yaml` replaces `hparams.yaml`.

    Args:
        save_dir: the folder of the event files; by default the run's folder.
    """

    def __init__(self, save_dir: str | Path = ".") -> None:
        super().__init__(str(save_dir), name="", version="", default_hp_metric=False)
        self.has_lost_points = False  # whether the disk was full

    @_warn_on_full_disk
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Log metrics, but not the number of the epoch, which Lightning adds, and no metrics of single classes.

        A chart of one point for each class is no help. The chart of the evaluation has all classes.
        """
        scalars = {key: value for key, value in metrics.items() if key != "epoch" and not is_of_class(key)}
        super().log_metrics(scalars, step)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `log_row` logs the settings of the whole run."""

    @_warn_on_full_disk
    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Log the settings of a row of the tab HParams. The columns of its metrics are the scalars of this log.

        torch would also log a list of the metrics. TensorBoard uses the list of the first run for all runs, and so
        hides the metrics of other tasks. Without a list, it shows the columns of all runs.
        """
        for summary in hparams(dict(settings), {})[1:]:
            self._add_summary(summary, 0)

    @_warn_on_full_disk
    def log_text(self, tag: str, text: str, step: int) -> None:
        """Log Markdown, and escape links, pictures, HTML and control characters, which names may contain."""
        escaped = escape_controls(text).replace("<", "&lt;").replace("![", "!&#91;").replace("](", "]&#40;")
        self.experiment.add_text(tag, escaped, step)

    @_warn_on_full_disk
    def log_picture(self, tag: str, image: Tensor, step: int, photograph: bool = False) -> None:
        """Log a picture, see `encode`."""
        picture = Summary.Image(height=image.shape[1], width=image.shape[2], colorspace=3)
        picture.encoded_image_string = encode(image, photograph)
        self._add_summary(Summary(value=[Summary.Value(tag=tag, image=picture)]), step)

    @_warn_on_full_disk
    def save(self) -> None:
        self.experiment.flush()

    @_warn_on_full_disk
    def finalize(self, status: str) -> None:
        super().finalize(status)

    def _add_summary(self, summary: Any, step: int | None) -> None:
        self.experiment._get_file_writer().add_summary(summary, step)


def log_row(folder: Path, trainer: L.Trainer, metrics: Mapping[str, float]) -> None:
    """Log a run's row of the tab HParams, in a log of its own: the settings, the best validation value and the metrics.

    In the run's own log, TensorBoard would make a column of every scalar.

    Args:
        folder: the run's folder, which has `config.yaml`.
        trainer: the trainer of the run.
        metrics: the value of each metric by log key.
    """
    checkpoint = next(callback for callback in trainer.checkpoint_callbacks if isinstance(callback, Checkpoint))
    best = {str(checkpoint.monitor): score} if (score := checkpoint.best_model_score) is not None else {}
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoard):
            row = TensorBoard(Path(logger.log_dir, "best"))
            row.log_settings(settings(folder / "config.yaml"))
            row.log_metrics({**best, **metrics}, trainer.global_step)
            row.save()


def settings(config: Path) -> dict[str, Any]:
    """Return the values in a `config.yaml` that may change a run's result, by keys such as `model.optimizer.lr`.

    Empty values are left out: TensorBoard takes a column with a text for a column of texts.
    """
    chosen = {}
    for key, value in read_settings(config).items():
        is_logged = key.partition(".")[0] not in NOT_LOGGED and key.rpartition(".")[2] not in NOT_LOGGED_ARGUMENTS
        if is_logged and value != "":
            chosen[key] = value
    return chosen


def encode(image: Tensor, photograph: bool = False) -> bytes:
    """Encode a picture, uint8 [3 H W]: as JPEG, which is smaller, if it shows photographs, else as PNG."""
    buffer, picture = io.BytesIO(), Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    picture.save(buffer, "JPEG" if photograph else "PNG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
