"""Recompute the learning rate schedules of a resumed run if its length or its config has changed."""

import math
import warnings

import lightning as L
from torch.optim.lr_scheduler import ChainedScheduler, LRScheduler, ReduceLROnPlateau

from kit.ground._torch import inner_schedules
from kit.ground.errors import UserError
from kit.safeguards.nan.step import cut_learning_rates

MAX_STEPS = 10_000_000  # steps of a schedule, which take about a minute


class InitialState:
    """The initial state of new optimizers and schedules, stored before a checkpoint overwrites it."""

    def __init__(self, trainer: L.Trainer) -> None:
        self._groups = [
            [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
            for optimizer in trainer.optimizers
        ]
        self._schedules = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]

    def apply(self, trainer: L.Trainer, with_optimizer: bool, epoch_length_changed: bool = False) -> None:
        """Reset the schedules to their new arguments, and repeat as many steps as the run has made.

        Args:
            with_optimizer: whether the optimizers also get their new arguments. This undoes the NaN guard's cuts of
                the learning rate. Otherwise, the cuts are applied to the new schedules.
            epoch_length_changed: whether the number of steps in an epoch has changed. A schedule that steps with
                the optimizer then continues at the start of the current epoch.

        Raises:
            UserError: a schedule has made too many steps.
        """
        # Many schedules compute each rate from the one before it, so all steps must be repeated.
        schedules = [
            (config.scheduler, state, _steps_before_epoch(trainer) if restarts else _steps_of(config.scheduler))
            for config, state in zip(trainer.lr_scheduler_configs, self._schedules, strict=True)
            for restarts in [epoch_length_changed and config.interval == "step"]
            if not isinstance(config.scheduler, ReduceLROnPlateau)  # it does not depend on the run's length
        ]
        if any(steps > MAX_STEPS for _, _, steps in schedules):
            raise UserError(f"the schedule has made more than {MAX_STEPS:,} steps, too many to repeat")
        scheduled = {id(scheduler.optimizer) for scheduler, _, _ in schedules}
        cut = 1.0  # the product of the NaN guard's cuts of the first optimizer, which comes last in this loop
        for optimizer, groups in reversed(list(zip(trainer.optimizers, self._groups, strict=True))):
            if with_optimizer or id(optimizer) in scheduled:
                cut = 1.0 if with_optimizer else optimizer.param_groups[0]["initial_lr"] / groups[0]["initial_lr"]
                for group, new in zip(optimizer.param_groups, groups, strict=True):
                    group.update(new)
        with warnings.catch_warnings(action="ignore"):  # torch warns that the optimizer has not stepped
            for scheduler, state, steps in schedules:
                scheduler.load_state_dict(state)
                for _ in range(steps):
                    scheduler.step()
        if cut != 1:
            cut_learning_rates(trainer, cut)


def _steps_before_epoch(trainer: L.Trainer) -> int:
    return trainer.current_epoch * math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)


def _steps_of(scheduler: LRScheduler) -> int:
    return _steps_of(inner_schedules(scheduler)[0]) if isinstance(scheduler, ChainedScheduler) else scheduler.last_epoch
