"""Recompute the learning rate schedules of a resumed run if its length or its config has changed."""

import math
import warnings
from typing import Any

import lightning as L
from torch.optim.lr_scheduler import ChainedScheduler, LRScheduler, ReduceLROnPlateau

from kit.ground._torch import inner_schedules
from kit.ground.errors import UserError
from kit.safeguards.nan.step import scale_learning_rates

MAX_STEPS = 10_000_000  # the largest number of steps to repeat, which takes about a minute


class InitialState:
    """The initial state of new optimizers and schedules, stored before a checkpoint overwrites it."""

    def __init__(self, trainer: L.Trainer) -> None:
        self._groups = [
            [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
            for optimizer in trainer.optimizers
        ]
        self._schedules = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]

    def apply(self, trainer: L.Trainer, with_optimizer: bool, from_epoch_start: bool = False) -> None:
        """Reset the schedules to their new arguments, and repeat as many steps as the run has made.

        Args:
            with_optimizer: whether the optimizers also get their new arguments. If True, earlier scaling of the
                learning rate, such as the NaN guard's, is lost. If False, the new schedules are scaled by the same
                factor.
            from_epoch_start: whether the current epoch begins again, and the run's length is given in epochs. If so, a
                schedule that steps after each optimizer step is set to the first step of the epoch, counted in epochs
                of the new length.

        Raises:
            UserError: a schedule has made too many steps.
        """
        schedules: list[tuple[Any, dict[str, Any]]] = [
            (config, state)
            for config, state in zip(trainer.lr_scheduler_configs, self._schedules, strict=True)
            if not isinstance(config.scheduler, ReduceLROnPlateau)  # this schedule does not depend on the run's length
        ]
        scheduled = {config.scheduler.optimizer for config, _ in schedules}
        first, factor = trainer.optimizers[0], 1.0  # factor: the product of all scaling of the learning rate
        if not with_optimizer and first in scheduled:
            factor = first.param_groups[0]["initial_lr"] / self._groups[0][0]["initial_lr"]
        for optimizer, groups in zip(trainer.optimizers, self._groups, strict=True):
            if with_optimizer or optimizer in scheduled:
                for group, new in zip(optimizer.param_groups, groups, strict=True):
                    group.update(new)
        with warnings.catch_warnings(action="ignore"):  # torch warns that the optimizer has not stepped
            for config, state in schedules:
                is_restarted = from_epoch_start and config.interval == "step"
                steps = _steps_before_epoch(trainer) if is_restarted else _steps_of(config.scheduler)
                if steps > MAX_STEPS:  # the checkpoint is damaged
                    raise UserError(f"the schedule has made more than {MAX_STEPS:,} steps, too many to repeat")
                config.scheduler.load_state_dict(state)
                for _ in range(steps):  # many schedules compute each rate from the one before it
                    config.scheduler.step()
        if factor != 1:
            scale_learning_rates(trainer, factor)


def _steps_before_epoch(trainer: L.Trainer) -> int:
    return trainer.current_epoch * math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)


def _steps_of(scheduler: LRScheduler) -> int:
    return _steps_of(inner_schedules(scheduler)[0]) if isinstance(scheduler, ChainedScheduler) else scheduler.last_epoch
