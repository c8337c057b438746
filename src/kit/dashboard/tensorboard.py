"""TensorBoard's logger, and a callback that logs the settings and the best metrics of a run."""

import functools
import io
import math
import sys
from argparse import Namespace
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

from kit.checkpoints.checkpoint import FROM_DATA, MACHINE_ARGUMENTS
from kit.evaluation import worst_and_best
from kit.ground.terminal import escape_controls
from kit.safeguards.checkpoints import monitored_metrics

JPEG_QUALITY = 88
# Arguments that are not logged, since the user does not choose them or they do not change the result.
NOT_LOGGED = (*FROM_DATA, *MACHINE_ARGUMENTS)


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
        """Log metrics, but of many classes only those with the lowest and the highest values."""
        super().log_metrics(worst_and_best(metrics), step)

    @_warn_on_full_disk
    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        """Log a row of the tab HParams. Its columns are, for example, `optimizer`, a class, and `optimizer/lr`.

        Lightning would also log a list of columns. TensorBoard uses the list of the first run for all runs, and so
        hides the metrics of other tasks. Without a list, it shows the columns of all runs.
        """
        values = dict(flatten(vars(params) if isinstance(params, Namespace) else params))
        for summary in hparams(values, metrics or {})[1:]:
            self._add_summary(summary, step)
        if metrics:
            super().log_metrics(metrics, step)

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
    """Log a row of the tab HParams at the first validation, and monitored metrics whenever they improve.

    The row is not logged earlier, since the table only shows metrics that are logged with it (Lightning issue 5101).
    """

    def __init__(self) -> None:
        self._best: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best = {key: float(value) for key, value in state_dict["best"].items()}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        board = next((logger for logger in trainer.loggers if isinstance(logger, TensorBoard)), None)
        if trainer.sanity_checking or not board:
            return
        improved: dict[str, float] = {}
        for key, mode in monitored_metrics(trainer, pl_module).items():
            sign, value = (1 if mode == "max" else -1), float(trainer.callback_metrics.get(key, math.nan))
            if sign * value > sign * self._best.get(key, -sign * math.inf):
                improved[key] = value
        scalars = {f"best/{key}": value for key, value in improved.items()}
        if improved and not self._best:
            board.log_hyperparams(self._settings(trainer, pl_module), scalars, trainer.global_step)
        elif improved:
            board.log_metrics(scalars, trainer.global_step)
        self._best |= improved

    def _settings(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Return the class names of the model and the data module, and the arguments of both by name."""
        settings: dict[str, Any] = {}
        for part, module in (("model", pl_module), ("data", trainer.datamodule)):  # type: ignore[attr-defined]
            if module is not None:
                settings |= {part: type(module).__name__, **module.hparams_initial}
        return {key: value for key, value in settings.items() if key not in NOT_LOGGED and key[0] != "_"}


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the name and the value of each nested value that is not None, with names such as `optimizer/lr`.

    The value of an object is the name of its class.
    """
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if "class_path" in value:
                yield name, value["class_path"].rsplit(".", 1)[-1]
                value = value.get("init_args") or {}
            yield from flatten(value, f"{name}/")
        elif value is not None:
            yield name, value if isinstance(value, (bool, int, float, str)) else str(value)


def encode(image: Tensor, photograph: bool = False) -> bytes:
    """Encode a picture, uint8 [3 H W]: as JPEG, which is smaller, if it shows photographs, else as PNG."""
    buffer, picture = io.BytesIO(), Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    picture.save(buffer, "JPEG" if photograph else "PNG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
