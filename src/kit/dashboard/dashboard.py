"""Pictures, curves and words of a run in TensorBoard."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import lightning as L
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from kit.dashboard.details import show_details
from kit.dashboard.looking import Sample, as_the_net_sees, look, picture
from kit.dashboard.pace import Pace
from kit.dashboard.scalars import Scalars, layout
from kit.dashboard.tensorboard import TensorBoard
from kit.data import Batch, ImageDataModule
from kit.evaluation import Evaluation
from kit.ground.errors import UserError
from kit.safeguards.patching import replaced
from kit.task import as_task


class Dashboard(L.Callback):
    """What `TensorBoard` shows beside the logged metrics; with another logger, or none, nothing.

    It needs nothing of a task. A `kit.task.Task` with `draw` gets pictures of its samples; with `predict`, of samples
    of the validation and of the worst of them, by its evaluation's `badness`; with `sampled`, of images that it makes.
    What its evaluation's `details` returns becomes charts.

    A run's first batch is drawn as the net sees it, and the last validation. Others are drawn while this takes less
    than its budget, ever more rarely as the run goes on. Which ones may so differ from run to run; curves do not.
    In distributed training samples are those of the first process, and where a net is sharded, which one process alone
    cannot run, there are none. It draws no random numbers. What goes wrong with a picture is said and ends no run.

    Args:
        enabled: show anything of this.
        samples: how many are in a picture.
        budget: the share of the run's time that pictures may take.
    """

    def __init__(self, enabled: bool = True, samples: int = 8, budget: float = 0.01) -> None:
        if samples < 1 or budget < 0:
            raise UserError("dashboard: samples must be above 0, and budget not below it; --dashboard.enabled false")
        self.enabled, self.samples = enabled, samples
        self.pace, self.scalars = Pace(budget), Scalars()
        self._board: TensorBoard | None = None
        self._data: ImageDataModule | None = None
        self._first: Batch | None = None
        self._listening = ExitStack()
        self._task: Any = None
        self._shown: dict[str, list[Sample]] = {}  # of each picture's tag
        self._made: Tensor | None = None  # by a task that makes images
        self._step = 0  # of the run, at which the validation was
        self._wanted = False  # the validation that is under way is drawn
        self._pending = False  # the latest one has not been drawn

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoard)] if self.enabled else []
        self._board = boards[0] if boards else None
        data = getattr(trainer, "datamodule", None)
        self._task = as_task(pl_module)
        drawable = isinstance(data, ImageDataModule) and self._task.has("draw")
        whole = isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy))
        self._data = data if drawable and whole and trainer.is_global_zero else None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.pace.begin(self._board.size() if self._board else 0)
        if self._board and not trainer.global_step:
            self._board.log_layout(layout(pl_module))

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._board is None:
            return
        self.scalars.before_step(trainer)
        if self._data and not trainer.global_step and not batch_idx:
            self._first = batch if isinstance(batch, Batch) else None
            self._listen(pl_module)

    def _listen(self, pl_module: Any) -> None:
        """The task may change a batch in its training step, mixing images, before its loss is computed of it."""
        if not self._task.has("loss_terms"):
            return
        method = pl_module.loss_terms

        def loss_terms(batch: Any) -> Any:
            if isinstance(batch, Batch):
                self._first = batch
            return method(batch)

        self._listening.enter_context(replaced(pl_module, "loss_terms", loss_terms))

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        if self._board:
            self.scalars.before_optimizer(trainer, optimizer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._board is None:
            return
        self.scalars.after_step(trainer, self._board)
        self._listening.close()
        first, self._first = self._first, None
        if first is not None and self._data:
            with self._drawing():
                samples = as_the_net_sees(self._data, first, 2 * self.samples)
                self._board.log_picture("samples/first_batch", picture(self._task, samples), 0, photograph=True)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._shown = {}
        self._step = trainer.global_step
        self._pending = self._watches(trainer)
        self._wanted = self._pending and (self.pace.due or _is_last(trainer))

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not self._watches(trainer) or dataloader_idx:
            return
        # Here, since after the last batch averaged weights give way to the trained ones.
        if self._wanted and batch_idx + 1 == trainer.num_val_batches[0]:
            self._look(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._watches(trainer) and trainer.strategy.broadcast(self._wanted):
            self._show(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Where a run ends before it was meant to, its last validation has not been drawn."""
        if self._board and trainer.strategy.broadcast(self._pending):
            modes = [(module, module.training) for module in pl_module.modules()]
            pl_module.eval()
            self._look(trainer)
            for module, training in modes:
                module.training = training
            self._show(trainer)

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """What is spent here counts; and what anyone's drawing raises, or a lack of memory, is said once."""
        try:
            with self.pace.spending():
                yield
        except Exception as error:
            self._data = None
            why = next(iter(str(error).splitlines()), "no more is known")
            rank_zero_warn(f"dashboard: no more pictures of samples ({type(error).__name__}: {why})")

    def _look(self, trainer: L.Trainer) -> None:
        if self._data and self._task.has("predict"):
            with self._drawing():
                self._shown = look(trainer, self._task, self._data, self.samples)
        if self._data and self._data.preprocessing.size and self._task.has("sampled"):
            with self._drawing():
                self._made = self._task.sampled(self._data.preprocessing.size)

    def _watches(self, trainer: L.Trainer) -> bool:
        return self._board is not None and trainer.state.fn == "fit" and not trainer.sanity_checking

    def _show(self, trainer: L.Trainer) -> None:
        """All pictures of the latest validation; all processes come here."""
        board, size = self._board, 0
        assert board is not None
        with self._drawing():
            for tag, samples in self._shown.items():
                size += board.log_picture(tag, picture(self._task, samples), self._step, photograph=True) or 0
            if self._made is not None:
                size += board.log_picture("samples/generated", self._made, self._step, photograph=True) or 0
        with self._drawing():
            evaluation: Evaluation | None = self._task.measured
            if trainer.is_global_zero and evaluation:
                size += show_details(board, evaluation.details(), evaluation.class_names, self._step)
        self._shown, self._made, self._pending = {}, None, False
        self.pace.drawn(size)


def _is_last(trainer: L.Trainer) -> bool:
    """Whether this validation is the run's last, as far as can be known before."""
    loop = trainer.fit_loop
    if trainer.max_steps is not None and trainer.max_steps > 0 and trainer.global_step >= trainer.max_steps:
        return True
    return trainer.current_epoch + 1 == trainer.max_epochs and loop.epoch_loop.batch_progress.is_last_batch
