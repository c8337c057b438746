"""The callback that scores training images in the same way as validation images, and gives the verdict."""

import math
from itertools import islice
from typing import Any

import lightning as L
import torch.distributed
from lightning.pytorch.utilities.seed import isolate_rng

from kit.data import ImageDataModule
from kit.evaluation import Evaluation
from kit.ground._lightning import data_module, prepare_batch
from kit.safeguards.checkpoints import head_tolerance, monitored_metrics
from kit.safeguards.messages import log_text
from kit.safeguards.overfitting.verdict import Scores, Verdict, advice, decide, margin_of_error
from kit.task import as_task

NEEDED = "this needs a kit.task.Task with a score from 0 to 1, and a kit.data.ImageDataModule"


class Overfitting(L.Callback):
    """Score training images in the same way as validation images, and judge whether the run overfits.

    The data module's `train_part_dataloader()` gives these images: a fixed part of the training set, as large as the
    validation set, without augmentation. They are scored at each validation, with the same weights as the validation
    images, for example with averaged weights. Scoring takes as long as the validation. It does not change the random
    numbers of training.

    See `verdict.decide` for the verdict. There is no verdict if the module is not a `kit.task.Task`, if the data module
    is not a `kit.data.ImageDataModule`, or if the task's evaluation has no `score_name`.

    Args:
        enabled: whether to score training images.

    Attributes:
        history: the scores at each validation so far.
        best: the index in `history` of the best checkpoint's validation.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.history: list[Scores] = []
        self.best = 0
        self._best_value = -math.inf  # the monitored metric of the best checkpoint, negated if lower is better
        self._score_name: str | None = None  # None if this run can have no verdict
        self._data: Any = None
        self._task: Any = None
        self._train_score = math.nan, math.nan  # the result of `_score_train_part` at the current validation

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            self._data, self._task = data_module(trainer), as_task(pl_module)
            if self._task.has("evaluate") and self._task.has("evaluation") and isinstance(self._data, ImageDataModule):
                self._score_name = self._task.evaluation("train").score_name

    def state_dict(self) -> dict[str, Any]:
        return {"history": [list(scores) for scores in self.history], "best": self.best, "best_score": self._best_value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not self.history:  # after training, the best checkpoint is loaded for the test: ignore its older history
            self.history = [Scores(*values) for values in state_dict["history"]]
            self.best, self._best_value = state_dict["best"], state_dict["best_score"]

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Score training images before the first batch: by then, all callbacks have put averaged weights in place."""
        if batch_idx == dataloader_idx == 0 and self._is_active(trainer):
            self._train_score = self._score_train_part(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._is_active(trainer):
            return
        epoch = trainer.current_epoch + bool(trainer.global_step)  # 0 before the first step
        scores = Scores(epoch, *_score_and_margin(self._task.latest_evaluation), *self._train_score)
        if math.isnan(scores.val):
            return
        self.history.append(scores)
        *_, (monitor, mode) = monitored_metrics(trainer, pl_module).items()  # the last key chooses the best checkpoint
        value = float(trainer.callback_metrics.get(monitor, math.nan)) * (1 if mode == "max" else -1)
        # `Checkpoint` chooses the best checkpoint in the same way.
        best_is_fitted_head = len(self.history) > 1 and not self.history[self.best].epoch
        tolerance = head_tolerance(pl_module, monitor) if best_is_fitted_head else 0.0
        if value >= self._best_value - tolerance:
            self.best, self._best_value = len(self.history) - 1, value
        for logger in trainer.loggers:
            logger.log_metrics(self.gap_values(-1), trainer.global_step)
        if verdict := self._verdict():
            log_text(trainer, "report", f"verdict: {verdict}")

    def conclusion(self, trainer: L.Trainer, pl_module: L.LightningModule) -> str:
        """Return the verdict and suggestions, for the end of the report; "" if this callback is disabled."""
        if not self.enabled:
            return ""
        verdict = self._verdict()
        if verdict is None:
            why = "the training images have no score" if self.history else "no validation gave a score"
            return f"verdict: none, since {why if self._score_name else NEEDED}"
        suggestions = advice(verdict, pl_module.hparams_initial, bool(self._data.augment))
        return f"verdict: {verdict}" + (f"\ntry: {', '.join(suggestions)}" if suggestions else "")

    def gap_values(self, index: int) -> dict[str, float]:
        """Return the training score, the gap and its margin of error in `history[index]`, by log key.

        Return {} if the training images have no score.
        """
        if not self.history or math.isnan(self.history[index].train):
            return {}
        scores = self.history[index]
        values = {f"train_{self._score_name}": scores.train, "gap": scores.gap, "gap_margin": scores.gap_margin}
        return {f"overfitting/{key}": value for key, value in values.items()}

    def _verdict(self) -> Verdict | None:
        return decide(self.history, self.best, self._task.has_known_maximum) if self.history else None

    def _is_active(self, trainer: L.Trainer) -> bool:
        is_training = trainer.state.fn == "fit" and not trainer.sanity_checking
        return self.enabled and self._score_name is not None and is_training

    def _score_train_part(self, trainer: L.Trainer, pl_module: Any) -> tuple[float, float]:
        """Return the result of `_score_and_margin` for as many batches of training images as a validation has.

        Call this in a validation: the module is then in evaluation mode, without gradients.
        """
        if torch.distributed.is_initialized():
            for buffer in pl_module.buffers():  # copy the first process's buffers, as DDP does in a validation step
                torch.distributed.broadcast(buffer, src=0)
        evaluation = self._task.evaluation("train")
        with isolate_rng():  # the iterator of a loader draws a random number
            loader = self._data.train_part_dataloader()
            for batch in islice(loader, int(min(*trainer.num_val_batches, len(loader)))):
                batch = prepare_batch(pl_module, trainer.precision_plugin.convert_input(batch))
                batch = trainer.strategy.batch_to_device(batch)
                with trainer.precision_plugin.val_step_context():
                    self._task.measure(evaluation, batch)
        evaluation.gather()
        return _score_and_margin(evaluation)


def _score_and_margin(evaluation: Evaluation) -> tuple[float, float]:
    """Return the score of an evaluation after `gather`, and the score's margin of error.

    Both are NaN if the score is not finite.
    """
    score = evaluation.score()
    return (score, margin_of_error(evaluation.score_terms())) if math.isfinite(score) else (math.nan, math.nan)
