"""Show the progress of a run, as a table on a terminal and as lines elsewhere."""

import math
import shutil
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.progress_bar import ProgressBar as RichBar
from rich.table import Table
from rich.text import Text

from kit.dashboard.speed import Speed, speed_text
from kit.ground.terminal import LiveLines, escape
from kit.safeguards.checkpoints import monitored_metrics

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_DRAWINGS = 0.25
WIDTHS = {"epoch": 5, "step": 7}  # the least width of a column, in characters; 8 for all other columns


class Bar(ProgressBar):
    """A table on a terminal, with a row for each epoch, or for each validation if there are several in an epoch.

    Below it are a row with the current values and a bar. They are drawn when a validation starts, and otherwise at most
    4 times a second. The values are read only then, since reading a loss waits for the GPU.
    """

    def __init__(self, speed: Speed) -> None:
        super().__init__()
        self.speed = speed
        self._lines = LiveLines()
        self._is_enabled = True
        self._drawn_at = -math.inf
        self._header: list[str] = []  # the columns of the last header
        self._rows = 0  # the number of rows below this header
        self._has_validated = False  # whether there was a validation in this epoch

    def disable(self) -> None:
        self._lines.erase()
        self._is_enabled = False

    def enable(self) -> None:
        self._is_enabled = True

    def on_train_epoch_start(self, *_: Any) -> None:
        self._has_validated = False

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if self._is_due():
            if _counts_steps(trainer):
                self._draw("training", trainer.global_step, trainer.max_steps)
            else:
                self._draw("training", trainer.fit_loop.epoch_loop.batch_idx + 1, trainer.num_training_batches)

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        self._draw("validation", 0, sum(trainer.num_val_batches))

    def on_validation_batch_end(self, *args: Any) -> None:
        self._on_evaluation_batch_end("validation", *args)

    def on_test_batch_end(self, *args: Any) -> None:
        self._on_evaluation_batch_end("test", *args)

    def _on_evaluation_batch_end(
        self, name: str, trainer: L.Trainer, _: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self._is_due():
            counts = trainer.num_test_batches if name == "test" else trainer.num_val_batches
            self._draw(name, sum(counts[:dataloader_idx]) + batch_idx + 1, sum(counts))

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._has_validated = True
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._add_row(trainer, with_metrics=True)
        else:
            self._lines.erase()

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if not self._has_validated and not _counts_steps(trainer):
            self._add_row(trainer, with_metrics=False)  # the metrics of an earlier epoch would look new

    def on_train_end(self, *_: Any) -> None:
        self._lines.erase()

    def on_test_end(self, *_: Any) -> None:
        self._lines.erase()

    def on_exception(self, *_: Any) -> None:
        self._lines.erase()

    def _is_due(self) -> bool:
        return self._is_enabled and time.monotonic() - self._drawn_at > SECONDS_BETWEEN_DRAWINGS

    def _draw(self, phase: str, done: float, total: float) -> None:
        """Draw the lines below the rows: the current values and a bar for one phase of the run."""
        if not self._is_enabled:
            return
        self._drawn_at = time.monotonic()
        width, height = shutil.get_terminal_size()
        is_known = math.isfinite(total) and total > 0
        count = f"{done:,}/{total:,.0f}" if is_known else f"{done:,}"
        bar_width = max(1, min(width, 80) - 12 - len(count))
        bar = RichBar(total if is_known else 1, done if is_known else 0, bar_width, complete_style="green")
        line = Table.grid(padding=(0, 1))
        line.add_row(f"{phase:<10}", bar, count)
        lines: list[Any] = [line]
        if self.trainer.state.fn == "fit":
            cells = self._cells(self.trainer, width)
            lines.insert(0, _row(cells.values(), cells, "bold"))
            # The header above has other columns, or is out of sight.
            if self._header != [*cells] or self._rows > height - 5:
                lines.insert(0, _row(cells, cells, "dim"))
        self._lines.draw(*lines)

    def _add_row(self, trainer: L.Trainer, with_metrics: bool) -> None:
        if not self._is_enabled:
            return
        cells = self._cells(trainer, shutil.get_terminal_size().columns)
        keys = [escape(key) for key in monitored_metrics(trainer, trainer.lightning_module)]
        score, best = _scores(trainer)
        header = [_row(cells, cells, "dim")] if self._header != [*cells] else []
        self._header, self._rows = [*cells], 1 if header else self._rows + 1
        texts = [text if with_metrics or column not in keys else "" for column, text in cells.items()]
        green_headers = (keys[-1], "best") if with_metrics and score is not None and score == best else ()
        self._lines.draw(above=[*header, _row(texts, cells, green_headers=green_headers)])

    def _cells(self, trainer: L.Trainer, width: int) -> dict[str, str]:
        """Return the text of each column by its header. Columns that do not fit into `width` are left out."""
        logged, keys = trainer.callback_metrics, ("train/loss", *monitored_metrics(trainer, trainer.lightning_module))
        cells = {"epoch": _epoch(trainer), "step": f"{trainer.global_step:,}"}
        cells |= {escape(key): _number(logged.get(key)) for key in keys}
        cells |= {"best": _number(_scores(trainer)[1]), "images/s": speed_text(self.speed.images_per_second)}
        cells["left"] = clock(self.speed.seconds_left(trainer))
        for header in ("images/s", "step", "train/loss", "best", "left"):
            if sum(_width(name) + 2 for name in cells) - 2 > width:
                del cells[header]
        return cells


def _scores(trainer: L.Trainer) -> tuple[float | None, float | None]:
    """Return the latest and the best value of the metric that chooses the best checkpoint, or None if there is none."""
    mode_of_key = monitored_metrics(trainer, trainer.lightning_module)
    *_, (monitor, mode) = mode_of_key.items()  # the last key chooses the best checkpoint
    scores = [trainer.callback_metrics.get(monitor)]
    for callback in trainer.checkpoint_callbacks:
        if getattr(callback, "monitor", None) == monitor:
            scores.append(getattr(callback, "best_model_score", None))  # the best score may come from before the resume
    values = [None if score is None else float(score) for score in scores]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return values[0], (max(finite) if mode == "max" else min(finite)) if finite else None


def _row(texts: Iterable[str], header: Iterable[str], style: str = "", green_headers: Sequence[str] = ()) -> Text:
    """Return the texts in columns. green_headers: the headers of the columns with green texts."""
    row = Text(style=style)
    for name, text in zip(header, texts, strict=True):
        row.append(f"{text:>{_width(name)}}  ", "green" if name in green_headers else "")
    row.rstrip()
    return row


def _width(header: str) -> int:
    """Return the width of a column, in characters."""
    return max(len(header), WIDTHS.get(header, 8))


class Lines(L.Callback):
    """Print lines to logs and pipes: see `_line`.

    A line is printed after a validation if the last line is more than 10 seconds old, and every 30 seconds in a long
    epoch. The line of the last validation is printed when the run ends, if it is not printed yet.
    """

    def __init__(self, speed: Speed) -> None:
        self.speed = speed
        self._printed_at = time.monotonic()
        self._skipped_line = ""  # the line of the latest validation, if it was not printed

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        if time.monotonic() - self._printed_at > 3 * SECONDS_BETWEEN_LINES:  # in a long epoch
            # The metrics of an earlier validation would look new.
            self._print(trainer, _line(trainer, self.speed, "train/loss"))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        line = _line(trainer, self.speed, "train/loss", *monitored_metrics(trainer, pl_module))
        self._skipped_line = ""
        if time.monotonic() - self._printed_at > SECONDS_BETWEEN_LINES:
            self._print(trainer, line)
        else:
            self._skipped_line = line

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._skipped_line:
            self._print(trainer, self._skipped_line.partition(" left ")[0])  # no time is left

    def _print(self, trainer: L.Trainer, line: str) -> None:
        self._printed_at = time.monotonic()
        if trainer.is_global_zero:
            print(line, flush=True)


def _line(trainer: L.Trainer, speed: Speed, *keys: str) -> str:
    """Return a line like `epoch 3/10 step 1200 train/loss 0.0810 val/accuracy 0.9870 images/s 4,512 left 0:01:12`."""
    logged = trainer.callback_metrics
    metrics = "".join(f" {key} {_number(logged[key])}" for key in keys if key in logged)
    left = clock(speed.seconds_left(trainer))
    text = f"epoch {_epoch(trainer)} step {trainer.global_step}{metrics}"
    return f"{text} images/s {speed_text(speed.images_per_second)}{left and ' left '}{left}"


def _epoch(trainer: L.Trainer) -> str:
    """Return a text such as `3/10`, or `3` if the number of epochs is not limited."""
    return f"{trainer.current_epoch + 1}" + ("" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}")


def _counts_steps(trainer: L.Trainer) -> bool:
    """Return whether the length of the run is given in steps."""
    return trainer.max_epochs in (None, -1) and trainer.max_steps > 0


def _number(value: Any) -> str:
    return "" if value is None else f"{float(value):.4f}"


def clock(seconds: float) -> str:
    """Return a duration such as `0:01:12`, or "" if it is infinite (unknown) or not positive."""
    return str(timedelta(seconds=round(seconds))) if 0 < seconds < math.inf else ""
