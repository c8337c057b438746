"""Make optimizers and learning rate schedules.

A config gives the class path and the arguments of both. The class may be from torch, the project or this library.
"""

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from lightning import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim import Optimizer
from torch.optim import lr_scheduler as torch_schedules
from torch.optim.lr_scheduler import LRScheduler

from kit.ground.errors import UserError, one_line
from kit.ground.ranges import PositiveInt, Share
from kit.ground.unexpected import is_from_user_code
from kit.task import as_task
from kit.training.monitor import resolve_monitor

Schedule = Callable[[Optimizer], LRScheduler]  # `ReduceLROnPlateau` is also an `LRScheduler`
Interval = Literal["step", "epoch"]

RUN_LENGTHS = ("total_steps", "T_max")  # arguments of schedules that default to the run's length
FILLED_IN = (*RUN_LENGTHS, "max_lr")  # arguments of schedules that the user may omit, although torch requires them


class WarmupCosine(torch_schedules.LambdaLR):
    """Raise the learning rate linearly, then lower it along half a cosine (Loshchilov and Hutter 2017, SGDR).

    Args:
        optimizer: the optimizer, whose learning rate is the highest rate.
        total_steps: the number of optimizer steps in the run.
        warmup: the fraction of the steps that raise the rate, 0 to 1.
        final: the last rate, as a fraction of the highest rate, 0 to 1.
    """

    def __init__(self, optimizer: Optimizer, total_steps: PositiveInt, warmup: Share = 0.1, final: Share = 0.0) -> None:
        super().__init__(optimizer, partial(_warmup_cosine, steps=total_steps, warmup=warmup, final=final))


def _warmup_cosine(step: int, steps: int, warmup: float, final: float) -> float:
    """Return the learning rate at a step, as a fraction of the highest rate."""
    warmup_steps = max(1.0, warmup * steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = min(1.0, (step - warmup_steps) / max(1.0, steps - warmup_steps))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def optimizer_and_schedule(
    task: LightningModule, optimizer: OptimizerCallable, schedule: Schedule | None, interval: Interval | None = None
) -> OptimizerLRScheduler:
    """Make the optimizer and the schedule of a task, in the form that `configure_optimizers` must return.

    The user may omit some arguments of a schedule. The default of `total_steps` and `T_max` is the run's length. The
    default of `max_lr` is the optimizer's learning rate. If `max_lr` or `base_lr` is given, it is multiplied by the
    task's `rates`, as the optimizer's learning rate is.

    `ReduceLROnPlateau` follows the task's `monitor` and steps after each validated epoch. A schedule steps after each
    optimizer step if it has an argument `total_steps`, or if its length is omitted. Any other schedule steps after
    each epoch. The first process prints when the schedule steps.

    Args:
        task: the task. It must be attached to a trainer if there is a schedule.
        optimizer: makes the optimizer. It is called with the parameter groups of `parameter_groups`.
        schedule: makes the schedule, or None to keep the learning rate. It is called with the optimizer, and with the
            defaults above as keywords.
        interval: `step` if the schedule steps after each optimizer step, `epoch` if after each epoch; by default as
            described above.

    Raises:
        UserError: the optimizer or the schedule cannot be made with these arguments; the schedule needs the run's
            length and the run has no limit; `OneCycleLR` ends before the run; or `ReduceLROnPlateau` has an `interval`
            or no validation after an epoch to follow.
    """
    groups = parameter_groups(task)
    new_optimizer = _call("model.optimizer", optimizer, [group for _, group in groups])
    for (rate, _), group in zip(groups, new_optimizer.param_groups, strict=True):
        group["lr"] = group["lr"] * rate
    if schedule is None:
        return new_optimizer
    schedule_class, arguments = _class_and_arguments(schedule)
    parameters = inspect.signature(schedule_class).parameters
    keywords: dict[str, Any] = {}
    monitoring: dict[str, Any] = {}
    if schedule_class is torch_schedules.ReduceLROnPlateau:
        if interval is not None:
            raise UserError("ReduceLROnPlateau steps after each validated epoch: leave out --model.schedule_interval")
        if not task.trainer.enable_validation:
            raise UserError("ReduceLROnPlateau follows a validation metric, but the run has no validation")
        if (epochs := task.trainer.check_val_every_n_epoch) is None:
            remedy = "give --trainer.check_val_every_n_epoch 1 --trainer.val_check_interval 1.0"
            raise UserError(f"ReduceLROnPlateau needs validations after epochs, not after steps: {remedy}")
        monitor, keywords["mode"] = resolve_monitor(task, None, None)
        monitoring = {"monitor": monitor, "frequency": epochs}
    given_names = {name for name, value in arguments.items() if value is not None}
    length_name = next((name for name in RUN_LENGTHS if name in parameters), "")
    has_length = length_name in given_names or given_names >= {"epochs", "steps_per_epoch"}  # `OneCycleLR` has these
    needs_length = bool(length_name) and not has_length
    interval = interval or ("step" if needs_length or length_name == "total_steps" else "epoch")
    if needs_length:
        keywords[length_name] = _run_length(task, interval)
    if "max_lr" in parameters and "max_lr" not in given_names:
        rates = [float(group["lr"]) for group in new_optimizer.param_groups]
        keywords["max_lr"] = rates if len(rates) > 2 else rates[0]  # two groups have equal rates
    for name in ("max_lr", "base_lr"):
        if len(groups) > 2 and name in given_names and isinstance(arguments[name], float | int):
            keywords[name] = [arguments[name] * rate for rate, _ in groups]
    scheduler = _call("model.schedule", schedule, new_optimizer, **keywords)
    if isinstance(scheduler, torch_schedules.OneCycleLR) and scheduler.total_steps < _run_length(task, interval):
        problem = f"ends after {scheduler.total_steps} {interval}s, but the run has {_run_length(task, interval)}"
        raise UserError(f"model.schedule: OneCycleLR {problem}: leave out total_steps, epochs and steps_per_epoch")
    duration = f" over {keywords[length_name]:,} {interval}s" if needs_length else ""
    when = "optimizer step" if interval == "step" else "validated epoch" if monitoring else "epoch"
    rank_zero_only(print)(f"schedule: {type(scheduler).__name__}{duration}, stepped after each {when}")
    config = {"scheduler": scheduler, "interval": interval, **monitoring}
    return {"optimizer": new_optimizer, "lr_scheduler": config}  # type: ignore[return-value]


def parameter_groups(task: LightningModule) -> list[tuple[float, dict[str, Any]]]:
    """Return the parameter groups for an optimizer, each with a fraction of the optimizer's learning rate.

    For each fraction in the task's `rates`, highest first, there are two groups. The second group has the
    parameters of at most one dimension, such as norms and biases, and no weight decay.
    """
    rates = as_task(task).rates
    trained = [(rates.get(name, 1.0), p) for name, p in task.named_parameters() if p.requires_grad]
    groups: list[tuple[float, dict[str, Any]]] = []
    for rate in sorted({1.0, *(rate for rate, _ in trained)}, reverse=True):
        groups.append((rate, {"params": [p for r, p in trained if r == rate and p.ndim > 1]}))
        others = [p for r, p in trained if r == rate and p.ndim <= 1]
        groups.append((rate, {"params": others, "weight_decay": 0.0}))
    return groups


def _class_and_arguments(schedule: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the class or the function inside `schedule`, and the arguments that `functools.partial` binds to it."""
    arguments: dict[str, Any] = {}
    while isinstance(schedule, partial):
        arguments = {**schedule.keywords, **arguments}
        # If the command line gives the schedule, `schedule.func` is jsonargparse's, and the class is an argument.
        schedule = next((argument for argument in schedule.args if isinstance(argument, type)), schedule.func)
    return schedule, arguments


def _call(key: str, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Call a function that makes the optimizer or the schedule at a config key.

    Raises:
        UserError: a library raises an exception, since it cannot use the arguments at this key.
    """
    try:
        return function(*arguments, **keywords)
    except Exception as error:  # the user may give any class, which may raise any exception
        if isinstance(error, UserError) or is_from_user_code(error):
            raise
        raise UserError(f"{key} cannot be used: {type(error).__name__}: {one_line(error)}") from error


def _run_length(task: LightningModule, interval: Interval) -> int:
    """Return the run's number of optimizer steps if the interval is `step`, else its number of epochs.

    Raises:
        UserError: the run has no limit.
    """
    trainer = task.trainer
    steps = trainer.estimated_stepping_batches
    is_endless = trainer.num_training_batches == math.inf  # `steps` is then -1 if only `max_epochs` is given
    if steps == math.inf or steps < 0 or (is_endless and interval == "epoch"):
        option = "max_steps" if is_endless else "max_epochs"
        raise UserError(f"the schedule needs the run's length: give --trainer.{option} N, or --model.schedule null")
    if interval == "step":
        return int(steps)
    return max(1, math.ceil(steps / math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)))
