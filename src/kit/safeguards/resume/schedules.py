"""Make the optimizers and schedules of a resumed run anew if its length or its config has changed."""

import math
import warnings

import lightning as L
from torch.optim.lr_scheduler import ChainedScheduler, LRScheduler, ReduceLROnPlateau

from kit.ground._torch import inner_schedules
from kit.ground.errors import UserError
from kit.safeguards.nan.rollback import cut_learning_rates

MOST_STEPS = 10_000_000  # of a schedule, which are done again in about a minute


class Renewal:
    """What they were made with now, noted before a checkpoint's state is put into them."""

    def __init__(self, trainer: L.Trainer) -> None:
        self._groups = [
            [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
            for optimizer in trainer.optimizers
        ]
        self._schedules = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]

    def apply(self, trainer: L.Trainer, with_optimizer: bool, by_epochs: bool = False) -> None:
        """Step new schedules to the place that the old ones had reached. Optimizers keep their moments.

        Args:
            with_optimizer: the optimizer's other arguments are the new ones, too, and cuts of its learning rate are
                dropped.
            by_epochs: the number of steps in an epoch has changed, so a schedule that steps with the optimizer goes to
                the step at which the current epoch begins.

        Raises:
            UserError: a schedule would take too many steps to reach its place.
        """
        place = _steps_before_epoch(trainer) if by_epochs else None
        # Many schedules make each rate of the one before it, so that there is no other way than through all of them.
        schedules = [
            (config.scheduler, made, _place(config.scheduler) if place is None or config.interval != "step" else place)
            for config, made in zip(trainer.lr_scheduler_configs, self._schedules, strict=True)
            if not isinstance(config.scheduler, ReduceLROnPlateau)  # which knows no length
        ]
        if any(place > MOST_STEPS for _, _, place in schedules):
            raise UserError(f"the schedule in the checkpoint has made more than {MOST_STEPS:,} steps, too many to redo")
        scheduled = {id(scheduler.optimizer) for scheduler, _, _ in schedules}
        cut = 1.0
        for optimizer, groups in reversed(list(zip(trainer.optimizers, self._groups, strict=True))):
            if not with_optimizer and id(optimizer) not in scheduled:
                continue
            cut = 1.0 if with_optimizer else optimizer.param_groups[0]["initial_lr"] / groups[0]["initial_lr"]
            for group, made in zip(optimizer.param_groups, groups, strict=True):
                group.update(made)
        with warnings.catch_warnings(action="ignore"):  # that the optimizer has not stepped
            for scheduler, made, place in schedules:
                scheduler.load_state_dict(made)
                for _ in range(place):
                    scheduler.step()
        if cut != 1:  # by a guard, for the rest of the run
            cut_learning_rates(trainer, cut)


def _steps_before_epoch(trainer: L.Trainer) -> int:
    return trainer.current_epoch * math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)


def _place(scheduler: LRScheduler) -> int:
    """Return the number of steps that a schedule has done."""
    return _place(inner_schedules(scheduler)[0]) if isinstance(scheduler, ChainedScheduler) else scheduler.last_epoch
