"""Whether the training images are known better than others are."""

import math
from itertools import islice
from typing import Any

import lightning as L
import torch.distributed
from lightning.fabric.utilities.data import sized_len
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader

from kit.data import ImageDataModule
from kit.evaluation import Evaluation
from kit.ground._lightning import prepare_batch
from kit.ground.errors import UserError
from kit.safeguards.checkpoints import judged_by
from kit.safeguards.messages import log_text
from kit.safeguards.overfitting.advice import advice, longer
from kit.safeguards.overfitting.verdict import Measured, Verdict, decide, margin
from kit.task import as_task

FORWARD = 1 / 3  # of a training step's time is its forward pass: about as much work as each half of the backward pass


class Overfitting(L.Callback):
    """Measures training images as validation does its own, and gives a verdict with its evidence, see `verdict.decide`.

    The images are a fixed part of the training set, as large as the validation set, not augmented: what the data
    module's `train_part_dataloader()` gives. They have an `Evaluation` of their own, made by the task as that of the
    validation is. A task whose evaluation has no `score_name`, and a module that is no `kit.task.Task`, are trained as
    ever, without a verdict.

    Averaged weights are what is measured where these are what is validated. It draws no random number that the
    training would draw, and depends on the seed alone.

    Args:
        enabled: measure at all.
        budget: the share of the training's work that this may take. Where every validation would take more, it is done
            at every second or third, or whatever it comes to; the best checkpoint is always measured.
    """

    def __init__(self, enabled: bool = True, budget: float = 0.05) -> None:
        if budget <= 0:
            raise UserError(f"overfitting.budget is {budget}, but must be above 0; --overfitting.enabled false is off")
        self.enabled, self.budget = enabled, budget
        self.history: list[Measured] = []
        self.best = 0  # its place in the history
        self.missing: str | None = None
        self._best_score = -math.inf
        self._data: Any = None
        self._loader: DataLoader | None = None
        self._train: tuple[float, float] | None = None
        self._batches: int | None = None  # of a validation; None: all
        self._task: Any = None
        self._name = "score"
        self._not_finite = False  # whether a validation had no finite metric

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._data, self._task = getattr(trainer, "datamodule", None), as_task(pl_module)
        if stage == "fit":
            self.missing = self._what_is_missing(pl_module)

    def _what_is_missing(self, pl_module: L.LightningModule) -> str | None:
        if not (self._task.has("evaluate") and self._task.has("evaluation")):
            return f"{type(pl_module).__name__} is no kit.task.Task with the methods evaluate and evaluation"
        if not isinstance(self._data, ImageDataModule):
            return f"{type(self._data).__name__} has no method train_part_dataloader"
        name = self._task.evaluation("train").score_name
        if name is None:
            return f"{type(pl_module).__name__} has no metric from 0 to 1 that says how well it does"
        self._name = name
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"history": [list(m) for m in self.history], "best": self.best, "best_score": self._best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not self.history:  # else it is the best checkpoint that is loaded, to be tested after the training
            self.history = [Measured(*values) for values in state_dict["history"]]
            self.best, self._best_score = state_dict["best"], state_dict["best_score"]

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """By now averaged weights are in their place, whatever the order of the callbacks."""
        if batch_idx or dataloader_idx or not self._watches(trainer):
            return
        if trainer.state.fn != "fit":
            self._measure_best(trainer, pl_module)
            return
        batches = trainer.num_val_batches[0]
        self._batches = None if batches == math.inf else int(batches)
        self._train = self._measure(trainer, pl_module) if self._is_due(trainer) else None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != "fit" or not self._watches(trainer):
            return
        judged = _judged(self._task.measured)
        if judged is None:
            self._not_finite = True
            return
        before = self._verdict()
        self.history.append(Measured(trainer.current_epoch + 1, *judged, *(self._train or ())))
        monitor, mode = list(judged_by(trainer, pl_module).items())[-1]
        score = float(trainer.callback_metrics.get(monitor, math.nan)) * (1 if mode == "max" else -1)
        if score > self._best_score:
            self.best, self._best_score = len(self.history) - 1, score
        self._log(trainer, pl_module, before)

    def on_test_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not batch_idx and not dataloader_idx and self._watches(trainer):
            self._measure_best(trainer, pl_module)

    def conclusion(self, trainer: L.Trainer, pl_module: L.LightningModule) -> str:
        """What stands at the end of the report; nothing where the guard is off."""
        if not self.enabled:
            return ""
        verdict = self._verdict()
        if verdict is None:
            return f"verdict: none, since {self._why_none()}"
        augmented = bool(getattr(self._data, "augment", ()))
        words = advice(verdict, pl_module.hparams_initial, augmented, longer(trainer))
        return f"verdict: {verdict}" + (f"\ntry: {', '.join(words)}" if words else "")

    def _why_none(self) -> str:
        if self.missing:
            return self.missing
        if self.history:
            return "the metric of the training images is unknown or not finite"
        not_finite = "the metric of the validation is not finite, or there was nothing to measure it on"
        return not_finite if self._not_finite else "nothing was validated"

    def figures(self) -> dict[str, float]:
        """For results.json: of the best checkpoint."""
        return self._figures(self.history[self.best]) if self.history else {}

    def _figures(self, measured: Measured) -> dict[str, float]:
        if measured.train is None:
            return {}
        return {
            f"overfitting/train_{self._name}": measured.train,
            "overfitting/gap": measured.gap,
            "overfitting/gap_margin": measured.gap_margin,
        }

    def _verdict(self) -> Verdict | None:
        return decide(self.history, self.best, self._task.up_to_one) if self.history else None

    def _watches(self, trainer: L.Trainer) -> bool:
        return self.enabled and not self.missing and not trainer.sanity_checking

    def _log(self, trainer: L.Trainer, pl_module: L.LightningModule, before: Verdict | None) -> None:
        """The figures, and the verdict in words whenever it is another."""
        verdict = self._verdict()
        for logger in trainer.loggers:
            logger.log_metrics(self._figures(self.history[-1]), trainer.global_step)
        if verdict and (before is None or verdict.kind != before.kind):
            log_text(trainer, "overfitting/verdict", str(verdict))

    def _is_due(self, trainer: L.Trainer) -> bool:
        """Whether this validation is one that is measured: by the settings, so that a resumed run does the same."""
        between = trainer.val_check_batch
        if not between or between == math.inf:  # by the clock, or without a length
            return True
        trained = between * (trainer.check_val_every_n_epoch or 1) * _batch_size(trainer.train_dataloader)
        part = self._part()
        evaluated = min(trainer.num_val_batches[0], sized_len(part) or 1) * _batch_size(part)
        every = math.ceil(evaluated * FORWARD / (self.budget * trained))
        every = trainer.strategy.broadcast(every)  # a process may have a batch more than another
        return (len(self.history) + 1) % max(1, every) == 0

    def _part(self) -> DataLoader:
        if self._loader is None:
            self._loader = self._data.train_part_dataloader()
        return self._loader

    def _measure_best(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Where it was left out: right after a run its weights are the best checkpoint's."""
        if self.history and self.history[self.best].train is None:
            found = self._measure(trainer, pl_module)
            self.history[self.best] = Measured(*self.history[self.best][:3], *(found or ()))

    def _measure(self, trainer: L.Trainer, pl_module: Any) -> tuple[float, float] | None:
        """The metric of the training images and its margin, batches going the way of a validation's; the module is in
        evaluation mode, and no gradients are kept, since a validation or a test is under way."""
        if torch.distributed.is_initialized():
            for buffer in pl_module.buffers():  # BatchNorm's, which a checkpoint has of the first process alone
                torch.distributed.broadcast(buffer, src=0)  # as DDP does before each of a validation's steps
        evaluation = self._task.evaluation("train")
        with isolate_rng():  # a loader's iterator draws a number
            for batch in islice(self._part(), self._batches):
                batch = prepare_batch(pl_module, trainer.precision_plugin.convert_input(batch))
                batch = trainer.strategy.batch_to_device(batch)
                with trainer.precision_plugin.val_step_context():
                    self._task.measure(evaluation, batch)
        evaluation.gather()
        return _judged(evaluation)


def _judged(evaluation: Evaluation) -> tuple[float, float] | None:
    """Return the score of all processes' samples and its margin; None if one of the two is unknown or not finite."""
    score = evaluation.score()
    judged = (score, margin(evaluation.shares())) if math.isfinite(score) else (math.nan, math.nan)
    return judged if all(map(math.isfinite, judged)) else None


def _batch_size(loader: Any) -> int:
    return getattr(getattr(loader, "batch_sampler", None), "batch_size", 1)
