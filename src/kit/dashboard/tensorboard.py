"""Log to TensorBoard: the logger, and a callback that logs a run's row in the table of runs."""

import functools
import io
import math
import sys
from collections.abc import Callable, Iterator, Mapping
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
from kit.dashboard.report import is_of_class
from kit.ground.terminal import escape_controls
from kit.safeguards.checkpoints import monitored_metrics

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
        """Do nothing: the callback `Hyperparameters` logs the settings of the whole run."""

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


class Hyperparameters(L.Callback):
    """Log a row of the tab HParams: settings, and the best validation values and the test values of monitored metrics.

    All scalars of a log become columns of the table. The run's log has so many scalars that the metrics to
    compare would be hard to find. So the row has a log of its own, in the folder `best`. Its scalars have the names of
    the run's curves, so that they add no charts.

    Args:
        config: the config that `SavedConfig` writes.
    """

    def __init__(self, config: Any) -> None:
        self._config = config
        self._best: dict[str, float] = {}
        self._row: TensorBoard | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best = {key: float(value) for key, value in state_dict["best"].items()}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        board = next((logger for logger in trainer.loggers if isinstance(logger, TensorBoard)), None)
        if self._row is None and board and trainer.is_global_zero and trainer.state.fn == "fit":
            self._row = TensorBoard(Path(board.log_dir, "best"))
            self._row.log_settings(settings(self._config.as_dict()))
        improved: dict[str, float] = {}
        for key, mode in monitored_metrics(trainer, pl_module).items():
            sign, value = (1 if mode == "max" else -1), float(trainer.callback_metrics.get(key, math.nan))
            if sign * value > sign * self._best.get(key, -sign * math.inf):
                improved[key] = value
        self._best |= improved
        self._log(improved, trainer.global_step)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        keys = [key.replace("val/", "test/") for key in monitored_metrics(trainer, pl_module)]
        values = trainer.callback_metrics
        self._log({key: float(values[key]) for key in keys if key in values}, trainer.global_step)

    def _log(self, values: dict[str, float], step: int) -> None:
        if self._row and values:
            self._row.log_metrics(values, step)
            self._row.save()


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that may change a run's result, by names such as `optimizer/lr`."""
    values = flatten({key: value for key, value in config.items() if key not in NOT_LOGGED})
    chosen = {name: value for name, value in values if name.rpartition("/")[2] not in NOT_LOGGED_ARGUMENTS}
    return {name.removeprefix("model/").removeprefix("data/"): value for name, value in chosen.items()}


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the name and the value of each nested value that is not None, with names such as `optimizer/lr`.

    The value of an object is the name of its class. The value of a list of objects is the names of the classes. The
    arguments of objects in a list have names such as `augment/RandomShift/share`.
    """
    for key, value in values.items():
        name = f"{prefix}{key}"
        parts = value if isinstance(value, list) else [value]
        if parts and all(isinstance(part, Mapping) and "class_path" in part for part in parts):
            classes = [part["class_path"].rpartition(".")[2] for part in parts]
            yield name, ", ".join(classes)
            for class_name, part in zip(classes, parts, strict=True):
                nested_prefix = f"{name}/{class_name}/" if isinstance(value, list) else f"{name}/"
                yield from flatten(part.get("init_args") or {}, nested_prefix)
        elif isinstance(value, Mapping):
            yield from flatten(value, f"{name}/")
        elif value is not None:
            yield name, value if isinstance(value, (bool, int, float, str)) else str(value)


def encode(image: Tensor, photograph: bool = False) -> bytes:
    """Encode a picture, uint8 [3 H W]: as JPEG, which is smaller, if it shows photographs, else as PNG."""
    buffer, picture = io.BytesIO(), Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    picture.save(buffer, "JPEG" if photograph else "PNG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
