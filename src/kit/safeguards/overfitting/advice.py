"""Suggest changes for the next run, as command line flags if possible."""

import math
from collections.abc import Mapping
from typing import Any

from kit.safeguards.overfitting.verdict import GAP_THAT_MATTERS, Verdict

MAX_CHANGES = 3  # with more changes at a time, it would be unclear which one helped
# Arguments of tasks and nets that reduce overfitting, with a common value for each.
REGULARIZERS = {"net.dropout": 0.3, "net.drop_rate": 0.3, "net.drop_path_rate": 0.1, "label_smoothing": 0.1}


def advice(verdict: Verdict, model: Mapping[str, Any], augmented: bool) -> list[str]:
    """Return suggestions for the next run, with the most promising one first.

    Args:
        verdict: the verdict about this run.
        model: the task's arguments in the form of a config: an object is a dict of `class_path` and `init_args`.
        augmented: whether training images are augmented.
    """
    net = model.get("net")
    net_arguments = net.get("init_args", {}) if isinstance(net, Mapping) else {}
    values = {**model, **{f"net.{key}": value for key, value in net_arguments.items()}}
    regularizers = {key: value for key, value in REGULARIZERS.items() if key in values}
    if verdict.kind == "overfits":
        flip = "--data.augment+=torchvision.transforms.v2.RandomHorizontalFlip (if a mirrored image keeps its label)"
        changes = [] if augmented else [flip]
        if "mixing" in values and values["mixing"] is None:
            changes.append("--model.mixing+=torchvision.transforms.v2.MixUp")
        changes += [f"--model.{key} {value}" for key, value in regularizers.items() if not values[key]]
        if augmented:
            changes.append("stronger augmentation (data.augment)")
        return [*changes[:MAX_CHANGES], "more training images"]
    if verdict.kind == "underfits":
        changes = ["longer training (trainer.max_epochs, early_stopping.patience)", "a larger net"]
        return [*changes, *(f"--model.{key} 0" for key in regularizers if values[key])][:MAX_CHANGES]
    if verdict.kind == "too small to tell":
        return [f"a validation set {math.ceil((verdict.evidence.gap_margin / GAP_THAT_MATTERS) ** 2)} times as large"]
    return []
