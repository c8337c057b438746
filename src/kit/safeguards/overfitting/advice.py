"""Suggestions for the next run, as flags of the command line where there is one."""

import math
from collections.abc import Mapping
from typing import Any

from kit.safeguards.overfitting.verdict import GAP_THAT_MATTERS, Verdict

MAX_FLAGS = 3  # who changes more at a time does not learn what helped
# Arguments of tasks and nets that keep a net from learning images by heart, and a usual value of each.
REGULARIZERS = {
    "net.dropout": "0.3",
    "net.drop_rate": "0.3",
    "net.drop_path_rate": "0.1",
    "label_smoothing": "0.1",
}


def advice(verdict: Verdict, model: Mapping[str, Any], augmented: bool) -> list[str]:
    """Return what to try next, the most likely first.

    Args:
        model: the task's arguments as the command line stores them, with classes as `{class_path, init_args}`.
        augmented: whether training images are augmented.
    """
    net = model.get("net")
    net_arguments = net.get("init_args", {}) if isinstance(net, Mapping) else {}
    values = {**model, **{f"net.{key}": value for key, value in net_arguments.items()}}
    regularizers = {key: value for key, value in REGULARIZERS.items() if key in values}
    if verdict.kind == "overfits":
        flip = "--data.augment+=torchvision.transforms.v2.RandomHorizontalFlip (if it means the same mirrored)"
        flags = [] if augmented else [flip]
        if "mixing" in values and values["mixing"] is None:
            flags.append("--model.mixing+=torchvision.transforms.v2.MixUp")
        flags += [f"--model.{key} {value}" for key, value in regularizers.items() if not values[key]]
        if augmented:
            flags.append("stronger augmentation (data.augment)")
        return [*flags[:MAX_FLAGS], "more training images"]
    if verdict.kind == "underfits":
        flags = ["longer training (trainer.max_epochs, early_stopping.patience)", "a larger net"]
        return [*flags, *(f"--model.{key} 0" for key in regularizers if values[key])][:MAX_FLAGS]
    if verdict.kind == "too small to tell":
        return [f"a validation set {math.ceil((verdict.at.gap_margin / GAP_THAT_MATTERS) ** 2)} times as large"]
    return []
