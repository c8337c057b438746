"""What to try next, for a run as it was configured."""

import math
from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from kit.safeguards.overfitting.verdict import TOLERATED, Verdict

MOST = 3  # flags at a time: who changes more does not learn what helped
# Keys that a task or its net may have, which hold it back from knowing images by heart, and a usual value of each.
HOLDS_BACK = {
    "net.dropout": "0.3",
    "net.drop_rate": "0.3",
    "net.drop_path_rate": "0.1",
    "label_smoothing": "0.1",
}
USUAL_RATE = 1e-3  # a learning rate of less than a tenth of it is the first suspect
STRONG_DECAY = 0.05


def advice(verdict: Verdict, model: Mapping[str, Any], augmented: bool, longer: str | None) -> list[str]:
    """Flags of the command line, and what no flag can do.

    Args:
        model: the task's hyper-parameters as the command line keeps them: classes as `{class_path, init_args}`.
        augmented: whether training images are.
        longer: the flag that lets the run train longer, see `longer`; None if there is none.
    """
    keys = {**model, **_inside(model, "net"), **_inside(model, "optimizer"), "decoupled": _is_adamw(model)}
    if verdict.kind == "overfits":
        return [*_against_overfitting(keys, augmented)[:MOST], "more training images"]
    if verdict.kind == "underfits":
        return _against_underfitting(keys, longer)[:MOST]
    if verdict.kind == "too small to tell":
        times = math.ceil((verdict.at.gap_margin / TOLERATED) ** 2)
        return [f"a validation set {times} times as large"]
    return []


def longer(trainer: L.Trainer) -> str | None:
    """Return the flag that doubles the limit that ended the run: of epochs, steps or time, or of early stopping.

    Returns:
        None if something else ended the run
    """
    if trainer.max_epochs and 0 < trainer.max_epochs <= trainer.current_epoch:
        return f"--trainer.max_epochs {2 * trainer.max_epochs}"
    if 0 < trainer.max_steps <= trainer.global_step:
        return f"--trainer.max_steps {2 * trainer.max_steps}"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Timer) and (remaining := callback.time_remaining()) is not None and remaining <= 0:
            minutes, seconds = divmod(round(2 * (callback.time_elapsed() + remaining)), 60)
            hours, minutes = divmod(minutes, 60)
            return f"--trainer.max_time {hours // 24:02}:{hours % 24:02}:{minutes:02}:{seconds:02}"
        if isinstance(callback, EarlyStopping) and callback.stopping_reason is EarlyStoppingReason.PATIENCE_EXHAUSTED:
            return f"--early_stopping.patience {2 * callback.patience}"
    return None


def _inside(model: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = model.get(name)
    values = part.get("init_args", {}) if isinstance(part, Mapping) else {}
    return {f"{name}.{key}": value for key, value in values.items()}


def _is_adamw(model: Mapping[str, Any]) -> bool:
    """Return whether the optimizer is AdamW, which decays weights apart from the gradient.

    With other optimizers, as strong a decay would leave the net nothing to learn.
    """
    part = model.get("optimizer")
    return isinstance(part, Mapping) and str(part.get("class_path")).endswith(".AdamW")


def _against_overfitting(keys: Mapping[str, Any], augmented: bool) -> list[str]:
    flip = "--data.augment+=torchvision.transforms.v2.RandomHorizontalFlip (if it means the same mirrored)"
    words = [] if augmented else [flip]
    if keys.get("mixing", ()) is None:
        words.append("--model.mixing+=torchvision.transforms.v2.MixUp")
    words += [f"--model.{key} {value}" for key, value in HOLDS_BACK.items() if key in keys and not keys[key]]
    decay = keys.get("optimizer.weight_decay")
    if decay is not None and decay < STRONG_DECAY and keys.get("decoupled"):
        words.append(f"--model.optimizer.weight_decay {STRONG_DECAY}")
    return [*words, "stronger augmentation (data.augment)"] if augmented else words


def _against_underfitting(keys: Mapping[str, Any], longer: str | None) -> list[str]:
    rate = keys.get("optimizer.lr")
    if rate is not None and rate < USUAL_RATE / 10:
        return [f"--model.optimizer.lr {USUAL_RATE}"]
    words = [longer] if longer else []
    if widths := keys.get("net.widths"):
        words.append(f"--model.net.widths '{[2 * width for width in widths]}'")
    else:
        words.append("a larger net")
    words += [f"--model.{key} 0" for key in HOLDS_BACK if keys.get(key)]
    return [*words, "--model.mixing null"] if keys.get("mixing") else words
