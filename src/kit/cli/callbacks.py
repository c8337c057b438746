"""Save the config of a run, and put the run's callbacks in order."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from jsonargparse import Namespace

from kit.config.parser import Parser
from kit.dashboard import Bar, Dashboard, Lines, ReportPage, Speed
from kit.ground import unexpected
from kit.ground.files import write_text
from kit.safeguards import Checkpoint, ExactResume, NanGuard, Overfitting
from kit.training import AutoPrecision, FineTuning

UNSAVED = "Unable to serialize instance "  # jsonargparse writes this in place of an object that YAML cannot hold


class SavedConfig(L.Callback):
    """Write the run's `config.yaml` when training starts, so that a run that is killed can be resumed.

    A resumed run replaces the file only after its first step, so that a `--resume` that fails does not change the file.
    The run then also removes its old `results.json` and `history.json`, since `restarting.check` treats a run
    with results as complete.
    """

    def __init__(self, parser: Parser, config: Namespace, resumed: bool) -> None:
        self.parser, self.config, self.resumed = parser, config, resumed
        self.is_saved = False

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        if not self.resumed:
            self._save(trainer)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if not self.is_saved:
            self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        self.is_saved, folder = True, Path(trainer.log_dir)  # all processes must read `log_dir`, see `Trainer`
        unexpected.run_folder = folder
        if trainer.is_global_zero:
            text = self.parser.dump(self.config, skip_unset=False, skip_validation=True)
            text = text if UNSAVED not in text else yaml.safe_dump(_savable(yaml.safe_load(text)))
            write_text(folder / "config.yaml", text)
            for name in ("results.json", "history.json"):
                (folder / name).unlink(missing_ok=True)


def _savable(values: Any) -> Any:
    """Return a config without objects that YAML cannot hold. They are defaults, which need not be saved."""
    if isinstance(values, dict):
        return {key: _savable(value) for key, value in values.items() if not str(value).startswith(UNSAVED)}
    return [_savable(value) for value in values] if isinstance(values, list) else values


# Lightning calls callbacks in the trainer's order. In each row, the first class must come before the others, and the
# text says why.
ORDER: tuple[tuple[type[L.Callback], tuple[type[L.Callback], ...], str], ...] = (
    (ExactResume, (L.Callback,), "`ExactResume` seeds, saves and stops before others begin a step or a validation"),
    (AutoPrecision, (L.Callback,), "it times the step before guards replace it, and before config.yaml is saved"),
    (SavedConfig, (L.Callback,), "a checkpoint cannot be resumed without config.yaml"),
    (FineTuning, (L.Callback,), "the NaN guard's first snapshot must have the fitted head"),
    (NanGuard, (Dashboard,), "the dashboard shows the gradient's norm that the guard has computed"),
    (Overfitting, (ReportPage,), "the page shows the training images' score, which `Overfitting` has just measured"),
    (ReportPage, (Dashboard,), "the dashboard draws the curves, to which the page has just added a point"),
    (Speed, (Bar, Lines), "both print the speed that `Speed` has measured"),
    (L.Callback, (Checkpoint,), "a checkpoint has the states of all callbacks; Lightning moves this one to the end"),
)


def sort_callbacks(callbacks: Iterable[L.Callback]) -> list[L.Callback]:
    """Return callbacks in an order that `ORDER` allows.

    `Overfitting` must already come before `ReportPage`, and `Speed` before `Bar` and `Lines`.
    """
    first_kinds = [kind for kind, others, _ in ORDER if others == (L.Callback,)]

    def ranks(callback: L.Callback) -> list[bool]:
        is_last = [isinstance(callback, Checkpoint), isinstance(callback, Dashboard)]
        return [*(not isinstance(callback, kind) for kind in first_kinds), *is_last]

    return sorted(callbacks, key=ranks)
