"""The callback: measure training images in the same way as validation images, and give the verdict."""

import math
from itertools import islice
from typing import Any

import lightning as L
import torch.distributed
from lightning.pytorch.utilities.seed import isolate_rng

from kit.data import ImageDataModule
from kit.evaluation import Evaluation
from kit.ground._lightning import prepare_batch
from kit.ground.errors import UserError
from kit.safeguards.checkpoints import judged_by
from kit.safeguards.messages import log_text
from kit.safeguards.overfitting.advice import advice
from kit.safeguards.overfitting.verdict import Measured, Verdict, decide, margin
from kit.task import as_task

FORWARD = 1 / 3  # the forward pass's share of the work of a training step; each half of the backward pass is as much


class Overfitting(L.Callback):
    """Measure training images as the validation measures its own, and give a verdict, see `verdict.decide`.

    The images are those of the data module's `train_part_dataloader()`: a fixed part of the training set, as large as
    the validation set, without augmentation. A module that is no `kit.task.Task`, or whose evaluation has no
    `score_name`, is trained without a verdict.

    Measuring uses no random number of the training. If averaged weights are validated, they are measured.

    Args:
        enabled: whether to measure at all.
        budget: the largest share of the training's work that measuring may take. If each validation would take more,
            only every second or third (and so on) is measured, and the best checkpoint after training.
    """

    def __init__(self, enabled: bool = True, budget: float = 0.05) -> None:
        if budget <= 0:
            raise UserError(f"overfitting.budget is {budget}, but must be above 0; --overfitting.enabled false is off")
        self.enabled, self.budget = enabled, budget
        self.history: list[Measured] = []
        self.best = 0  # the index of the best checkpoint's validation in the history
        self._best_score = -math.inf
        self._score_name: str | None = None  # None if this run has no verdict
        self._no_verdict = "nothing was validated"  # the reason
        self._data: Any = None
        self._task: Any = None
        self._train_score: tuple[float, float] | None = None  # of the current validation, with its margin

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        # Lightning sets `datamodule` only where there is one.
        self._data, self._task = getattr(trainer, "datamodule", None), as_task(pl_module)
        name, has_evaluation = type(pl_module).__name__, self._task.has("evaluate") and self._task.has("evaluation")
        if not has_evaluation or not isinstance(self._data, ImageDataModule):
            self._no_verdict = f"{name} is no kit.task.Task, or its data no kit.data.ImageDataModule"
            return
        self._score_name = self._task.evaluation("train").score_name
        if self._score_name is None:
            self._no_verdict = f"{name} has no score from 0 to 1"

    def state_dict(self) -> dict[str, Any]:
        return {"history": [list(m) for m in self.history], "best": self.best, "best_score": self._best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not self.history:  # otherwise the best checkpoint is loaded after training, to be tested
            self.history = [Measured(*values) for values in state_dict["history"]]
            self.best, self._best_score = state_dict["best"], state_dict["best_score"]

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Measure before the first batch: by then averaged weights are in place, whatever the order of callbacks."""
        if batch_idx == dataloader_idx == 0 and self._measures(trainer):
            if trainer.state.fn == "fit":
                self._train_score = self._measure(trainer, pl_module) if self._is_due(trainer) else None
            else:
                self._measure_best(trainer, pl_module)

    on_test_batch_start = on_validation_batch_start  # of the test after training

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != "fit" or not self._measures(trainer):
            return
        self._no_verdict = "the score of the validation or of the training images is not finite, or there was none"
        val_score = _score(self._task.measured)
        if val_score is None:
            return
        self.history.append(Measured(trainer.current_epoch + 1, *val_score, *(self._train_score or ())))
        monitor, mode = list(judged_by(trainer, pl_module).items())[-1]
        score = float(trainer.callback_metrics.get(monitor, math.nan)) * (1 if mode == "max" else -1)
        if score > self._best_score:
            self.best, self._best_score = len(self.history) - 1, score
        for logger in trainer.loggers:
            logger.log_metrics(self.latest_figures(), trainer.global_step)
        if verdict := self._verdict():
            log_text(trainer, "overfitting/verdict", str(verdict))

    def conclusion(self, trainer: L.Trainer, pl_module: L.LightningModule) -> str:
        """Return the verdict and what to try, for the end of the report; empty if this callback is off."""
        if not self.enabled:
            return ""
        verdict = self._verdict()
        if verdict is None:
            return f"verdict: none, since {self._no_verdict}"
        suggestions = advice(verdict, pl_module.hparams_initial, bool(self._data.augment))
        return f"verdict: {verdict}" + (f"\ntry: {', '.join(suggestions)}" if suggestions else "")

    def figures(self) -> dict[str, float]:
        """Return the scores of the best checkpoint, for `results.json`."""
        return self._figures(self.history[self.best]) if self.history else {}

    def latest_figures(self) -> dict[str, float]:
        """Return the figures of the latest validation; empty if it measured no training images."""
        return self._figures(self.history[-1]) if self.history else {}

    def _figures(self, measured: Measured) -> dict[str, float]:
        if measured.train is None:
            return {}
        values = {f"train_{self._score_name}": measured.train, "gap": measured.gap, "gap_margin": measured.gap_margin}
        return {f"overfitting/{key}": value for key, value in values.items()}

    def _verdict(self) -> Verdict | None:
        return decide(self.history, self.best, self._task.up_to_one) if self.history else None

    def _measures(self, trainer: L.Trainer) -> bool:
        return self.enabled and self._score_name is not None and not trainer.sanity_checking

    def _is_due(self, trainer: L.Trainer) -> bool:
        """Return whether this validation is measured. It depends on settings only, so a resumed run does the same."""
        between = trainer.val_check_batch
        if not between or between == math.inf:  # validated by the clock, or in an epoch without a length
            return True
        trained = between * (trainer.check_val_every_n_epoch or 1) * self._data.batch_size
        part = self._data.train_part_dataloader()
        evaluated = min(trainer.num_val_batches[0], len(part)) * part.batch_sampler.batch_size
        every = math.ceil(evaluated * FORWARD / (self.budget * trained))
        every = trainer.strategy.broadcast(every)  # one process may have a batch more than another
        return (len(self.history) + 1) % max(1, every) == 0

    def _measure_best(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure the best checkpoint if its validation was not measured. After training, its weights are loaded."""
        if self.history and self.history[self.best].train is None:
            score = self._measure(trainer, pl_module)
            self.history[self.best] = Measured(*self.history[self.best][:3], *(score or ()))

    def _measure(self, trainer: L.Trainer, pl_module: Any) -> tuple[float, float] | None:
        """Return the score of the training images and its margin.

        A validation or a test is running, so the module is in evaluation mode and no gradients are computed. As many
        batches are measured as a validation has.
        """
        if torch.distributed.is_initialized():
            for buffer in pl_module.buffers():  # a checkpoint has those of the first process, such as BatchNorm's
                torch.distributed.broadcast(buffer, src=0)  # DDP does the same before each validation step
        max_batches = min(trainer.num_val_batches, default=math.inf)
        evaluation = self._task.evaluation("train")
        with isolate_rng():  # the iterator of a loader draws a random number
            part = self._data.train_part_dataloader()
            for batch in islice(part, None if max_batches == math.inf else int(max_batches)):
                batch = prepare_batch(pl_module, trainer.precision_plugin.convert_input(batch))
                batch = trainer.strategy.batch_to_device(batch)
                with trainer.precision_plugin.val_step_context():
                    self._task.measure(evaluation, batch)
        evaluation.gather()
        return _score(evaluation)


def _score(evaluation: Evaluation) -> tuple[float, float] | None:
    """Return the score of all processes' samples and its margin; None if there is nothing to measure."""
    score = evaluation.score()
    return (score, margin(evaluation.shares())) if math.isfinite(score) else None
