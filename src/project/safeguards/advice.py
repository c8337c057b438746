"""What to try next, for a run as it was configured."""

import math
from collections.abc import Mapping
from typing import Any

from project.safeguards.verdict import TOLERATED, Verdict

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


def advice(verdict: Verdict, model: Mapping[str, Any], augmented: bool, epochs: int | None) -> list[str]:
    """Flags of the command line, and what no flag can do.

    Args:
        model: the task's hyper-parameters as the command line keeps them: classes as `{class_path, init_args}`.
        augmented: whether training images are.
        epochs: how many were planned.
    """
    keys = {**model, **_inside(model, "net"), **_inside(model, "optimizer")}
    if verdict.kind == "overfits":
        return [*_against_overfitting(keys, augmented)[:MOST], "more training images"]
    if verdict.kind == "underfits":
        return _against_underfitting(keys, epochs)[:MOST]
    if verdict.kind == "too small to tell":
        times = math.ceil((verdict.at.gap_margin / TOLERATED) ** 2)
        return [f"a validation set {times} times as large"]
    return []


def _inside(model: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = model.get(name)
    values = part.get("init_args", {}) if isinstance(part, Mapping) else {}
    return {f"{name}.{key}": value for key, value in values.items()}


def _against_overfitting(keys: Mapping[str, Any], augmented: bool) -> list[str]:
    flip = "--data.augment+=torchvision.transforms.v2.RandomHorizontalFlip (if it means the same mirrored)"
    words = [] if augmented else [flip]
    if keys.get("mixing", ()) is None:
        words.append("--model.mixing+=torchvision.transforms.v2.MixUp")
    words += [f"--model.{key} {value}" for key, value in HOLDS_BACK.items() if key in keys and not keys[key]]
    decay = keys.get("optimizer.weight_decay")
    if decay is not None and decay < STRONG_DECAY:
        words.append(f"--model.optimizer.weight_decay {STRONG_DECAY}")
    return [*words, "stronger augmentation (data.augment)"] if augmented else words


def _against_underfitting(keys: Mapping[str, Any], epochs: int | None) -> list[str]:
    rate = keys.get("optimizer.lr")
    if rate is not None and rate < USUAL_RATE / 10:
        return [f"--model.optimizer.lr {USUAL_RATE}"]
    words = []
    if epochs and epochs > 0:
        words.append(f"--trainer.max_epochs {2 * epochs}")
    if widths := keys.get("net.widths"):
        words.append(f"--model.net.widths '{[2 * width for width in widths]}'")
    else:
        words.append("a larger net")
    words += [f"--model.{key} 0" for key in HOLDS_BACK if keys.get(key)]
    return [*words, "--model.mixing null"] if keys.get("mixing") else words
