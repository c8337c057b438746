"""The dashboard: log pictures of samples, a confusion matrix and curves to TensorBoard."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import lightning as L
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from kit.dashboard.pictures import chart_pictures, has_whole_net, sample_pictures
from kit.dashboard.report_page import ReportPage
from kit.dashboard.tensorboard import TensorBoard
from kit.data import ImageDataModule
from kit.ground._lightning import data_module, logged_step
from kit.ground.errors import one_line
from kit.ground.ranges import NonNegativeFloat, PositiveInt
from kit.safeguards import NanGuard
from kit.task import as_task

FIRST_SECONDS = 0.5  # the approximate time of the first drawing
GROWTH = 1.15  # the least factor by which the run's time grows between drawings: about 50 drawings in a day


class Dashboard(L.Callback):
    """Log pictures and curves, if the run has a `TensorBoard` logger.

    Every task gets the curves of the learning rate and the gradient's norm. Pictures of samples need the task's method
    `draw`. Pictures of predictions also need `predict`, and pictures of generated images need `draw_generated`.
    `Evaluation.badness` chooses the worst samples. `Evaluation.charts` has, for example, the confusion matrix.

    The first training batch is drawn after augmentation and normalisation. The last validation is always drawn. Other
    validations are drawn if the budget allows it, and more rarely as the run goes on. Since this depends on the clock,
    two runs with the same config may draw different validations.

    In a distributed run, only the first process draws, from its own samples. If the net is sharded, no samples are
    drawn, since one process cannot run the net alone. Drawing leaves the random state untouched. If the drawing of
    samples, curves or charts raises an exception, the callback warns, and does not draw this group again.

    Args:
        enabled: if False, log nothing.
        samples: the largest number of samples in a picture. If the drawings are wide or high, fewer samples are drawn.
        budget: the largest share of the run's time that drawing may take.
    """

    def __init__(self, enabled: bool = True, samples: PositiveInt = 6, budget: NonNegativeFloat = 0.01) -> None:
        self.enabled, self.samples, self.budget = enabled, samples, budget
        self._run_start = self._last_drawing = self._drawing_seconds = 0.0  # seconds, see `is_due`
        self._board: TensorBoard | None = None
        self._data: ImageDataModule | None = None  # None if no samples are drawn
        self._task: Any = None
        self._page: ReportPage | None = None
        self._is_due = False  # whether to draw the current validation
        self._is_pending = False  # whether the latest validation is not drawn yet
        self._failed: set[str] = set()  # the groups of pictures that are not drawn again, see `_log`

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoard)]
        self._board = boards[0] if boards and self.enabled and trainer.is_global_zero else None
        self._task = as_task(pl_module)
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        self._page = next((callback for callback in callbacks if isinstance(callback, ReportPage)), None)
        data = data_module(trainer)
        has_images = isinstance(data, ImageDataModule) and self._task.has("draw")
        can_draw = self._board and has_images and has_whole_net(trainer)
        self._data = data if can_draw else None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._run_start, self._last_drawing = time.perf_counter(), 0.0

    def on_train_batch_start(self, trainer: L.Trainer, _: Any, batch: Any, batch_idx: int) -> None:
        """Log the pictures that `ReportPage` has just drawn: of the first batch, and of the data."""
        pictures = self._page.first_pictures if self._page else {}
        if self._board:
            for tag, picture in pictures.items():
                self._board.log_picture(tag, picture, 0, photograph=tag.startswith("samples/"))
        pictures.clear()

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if self._board and interval and (logged_step(trainer) + 1) % interval == 0:
            self._board.log_metrics(optimizer_values(trainer), logged_step(trainer))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        elapsed = time.perf_counter() - self._run_start
        self._is_pending = bool(self._board) and trainer.state.fn == "fit" and not trainer.sanity_checking
        self._is_due = self._is_pending and is_due(elapsed, self._last_drawing, self._drawing_seconds, self.budget)

    def on_validation_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        # Draw here, since averaged weights are no longer in the module in `on_validation_end`.
        if self._is_due and trainer.fit_loop.epoch_loop.val_loop.batch_progress.is_last_batch:
            self._log_samples(trainer.global_step)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._is_due:
            self._log_charts(trainer.global_step)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the last validation if it is not drawn yet."""
        if self._is_pending:
            training_modules = [module for module in pl_module.modules() if module.training]
            pl_module.eval()
            self._log_samples(trainer.global_step)
            self._log_charts(trainer.global_step)
            for module in training_modules:
                module.training = True

    def _log_samples(self, step: int) -> None:
        """Log pictures of validation samples with predictions, and of generated images."""
        if data := self._data:
            task, count = self._task, self.samples
            self._log("pictures of samples", "samples", lambda: sample_pictures(task, data, count, "val").items(), step)

    def _log_charts(self, step: int) -> None:
        if page := self._page:
            self._log("curves", "curves", lambda: page.curve_pictures().items(), step)
        self._log("charts", "validation", lambda: chart_pictures(self._task), step)
        self._is_pending = False

    def _log(self, group: str, folder: str, pictures: Callable[[], Iterable[tuple[str, Tensor]]], step: int) -> None:
        """Draw and log pictures, and measure the time. After an exception, warn, and do not draw this group again.

        Args:
            group: the name of the pictures in the warning.
            folder: the first part of the pictures' tags.
            pictures: a function that returns the second part of each picture's tag, and the picture, uint8 [3 H W]. It
                may draw them one by one: those before an exception are logged.
            step: the step to log.
        """
        if not self._board or group in self._failed:
            return
        start = time.perf_counter()
        try:
            for name, picture in pictures():
                self._board.log_picture(f"{folder}/{name}", picture, step, photograph=folder == "samples")
        except Exception as error:  # a task of any author may raise any exception
            self._failed.add(group)
            rank_zero_warn(f"dashboard: no more {group} ({type(error).__name__}: {one_line(error)})")
        now = time.perf_counter()
        self._drawing_seconds, self._last_drawing = self._drawing_seconds + now - start, now - self._run_start


def is_due(elapsed: float, last_drawing: float, drawing_seconds: float, budget: float) -> bool:
    """Return whether to draw again: within the budget, and more rarely as the run goes on.

    Args:
        elapsed: seconds since the start of the run.
        last_drawing: seconds from the start of the run to the end of the last drawing.
        drawing_seconds: the time that all drawings took together.
        budget: the largest share of the run's time that drawing may take.
    """
    return max(drawing_seconds, FIRST_SECONDS) <= budget * elapsed and elapsed >= GROWTH * last_drawing


def optimizer_values(trainer: L.Trainer) -> dict[str, float]:
    """Return the learning rates, and the gradient's norm before clipping if the NaN guard has computed it.

    If all parameter groups have the same rate, its key is `learning_rate`. Otherwise each group has a key, such as
    `learning_rate/1`.
    """
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    rates = [float(group["lr"]) for group in groups]
    rates_by_key = {f"learning_rate/{number}": rate for number, rate in enumerate(rates, 1)}
    values = {"learning_rate": rates[0]} if len(set(rates)) == 1 else rates_by_key
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    norm = next((callback.gradient_norm for callback in callbacks if isinstance(callback, NanGuard)), None)
    if norm is not None and norm.isfinite():
        values["gradient_norm"] = float(norm)
    return values
