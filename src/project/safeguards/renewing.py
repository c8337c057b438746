"""Optimizers and schedules of a run whose length, or config, is another than before."""

from typing import Any

import lightning as L
from torch.optim.lr_scheduler import ReduceLROnPlateau

COUNTED = ("last_epoch", "_step_count", "_last_lr")  # of a schedule's state; the rest is what it was made with


class Renewal:
    """What they were made with now, noted before a checkpoint's state is put into them."""

    def __init__(self, trainer: L.Trainer) -> None:
        self._groups = [
            [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
            for optimizer in trainer.optimizers
        ]
        self._schedules = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]

    def apply(self, trainer: L.Trainer, with_optimizer: bool) -> None:
        """Schedules keep the place that they have come to, optimizers the moments that they have gathered."""
        if with_optimizer:
            for optimizer, groups in zip(trainer.optimizers, self._groups, strict=True):
                for group, made in zip(optimizer.param_groups, groups, strict=True):
                    group.update(made)
        for config, made in zip(trainer.lr_scheduler_configs, self._schedules, strict=True):
            if not isinstance(config.scheduler, ReduceLROnPlateau):  # which knows no length
                config.scheduler.load_state_dict(_placed(made, config.scheduler.state_dict()))


def _placed(made: dict[str, Any], reached: dict[str, Any]) -> dict[str, Any]:
    state = {**made, **{key: reached[key] for key in COUNTED if key in reached}}
    if "_schedulers" in made:  # one after the other, or chained
        state["_schedulers"] = [
            _placed(*pair) for pair in zip(made["_schedulers"], reached["_schedulers"], strict=True)
        ]
    return state
