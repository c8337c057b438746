"""Schedules of a run that is resumed with another length are those of a run that always had that length."""

from types import SimpleNamespace

import pytest
import torch
from torch.optim import lr_scheduler as schedules

from kit.ground.errors import UserError
from kit.safeguards.nan.step import scale_learning_rates
from kit.safeguards.resume.schedules import InitialState
from kit.training.schedule import WarmupCosine

MAKERS = {
    "warm-up": WarmupCosine,
    "cosine": schedules.CosineAnnealingLR,
    "linear": lambda optimizer, steps: schedules.LinearLR(optimizer, 1.0, 0.0, steps),
    "polynomial": schedules.PolynomialLR,
    "one cycle": lambda optimizer, steps: schedules.OneCycleLR(optimizer, 0.1, steps),
    "sequential": lambda optimizer, steps: schedules.SequentialLR(
        optimizer, [schedules.LinearLR(optimizer, 0.1, 1.0, 3), schedules.CosineAnnealingLR(optimizer, steps - 3)], [3]
    ),
    "chained": lambda optimizer, steps: schedules.ChainedScheduler(
        [schedules.LinearLR(optimizer, 0.1, 1.0, 3), schedules.CosineAnnealingLR(optimizer, steps)]
    ),
}


def run(maker, steps: int) -> SimpleNamespace:
    """Return the parts of a trainer that `InitialState` needs."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    config = SimpleNamespace(scheduler=maker(optimizer, steps))
    return SimpleNamespace(optimizers=[optimizer], lr_scheduler_configs=[config])


def rates(trainer: SimpleNamespace, count: int) -> list[float]:
    found = []
    for _ in range(count):
        trainer.optimizers[0].step()
        trainer.lr_scheduler_configs[0].scheduler.step()
        found.append(trainer.optimizers[0].param_groups[0]["lr"])
    return found


def resumed(stopped: SimpleNamespace, maker, steps: int, with_optimizer: bool = False) -> SimpleNamespace:
    trainer = run(maker, steps)
    initial_state = InitialState(trainer)
    trainer.optimizers[0].load_state_dict(stopped.optimizers[0].state_dict())
    trainer.lr_scheduler_configs[0].scheduler.load_state_dict(stopped.lr_scheduler_configs[0].scheduler.state_dict())
    initial_state.apply(trainer, with_optimizer)
    return trainer


@pytest.mark.parametrize("name", MAKERS)
def test_rates_are_those_of_the_longer_run(name):
    maker = MAKERS[name]
    short = run(maker, 10)
    rates(short, 10)
    assert rates(resumed(short, maker, 20), 10) == rates(run(maker, 20), 20)[10:]


@pytest.mark.parametrize("name", ["warm-up", "cosine"])
def test_cut_learning_rate_is_kept_unless_the_optimizer_changes(name):
    maker = MAKERS[name]
    short = run(maker, 10)
    rates(short, 5)
    scale_learning_rates(short, 0.5)
    rates(short, 5)
    wanted = rates(run(maker, 20), 20)[10:]
    assert rates(resumed(short, maker, 20), 10) == pytest.approx([rate / 2 for rate in wanted])
    assert rates(resumed(short, maker, 20, with_optimizer=True), 10) == pytest.approx(wanted)


def test_plateau_schedule_is_not_changed():
    maker = lambda optimizer, _: schedules.ReduceLROnPlateau(optimizer)  # noqa: E731
    short = run(maker, 10)
    short.optimizers[0].param_groups[0]["lr"] = 0.025
    assert resumed(short, maker, 20).optimizers[0].param_groups[0]["lr"] == 0.025


@pytest.mark.parametrize("name", ["warm-up", "cosine", "one cycle"])
def test_other_number_of_steps_in_an_epoch(name):
    """Three of six epochs were done in 2 steps each; each of them has 4 steps now."""
    maker = MAKERS[name]
    short = run(maker, 12)
    rates(short, 6)
    trainer = run(maker, 24)
    initial_state = InitialState(trainer)
    config = trainer.lr_scheduler_configs[0]
    config.scheduler.load_state_dict(short.lr_scheduler_configs[0].scheduler.state_dict())
    config.interval = "step"
    trainer.current_epoch, trainer.num_training_batches, trainer.accumulate_grad_batches = 3, 4, 1
    initial_state.apply(trainer, with_optimizer=False, from_epoch_start=True)
    assert rates(trainer, 12) == rates(run(maker, 24), 24)[12:]


def test_too_many_steps_are_refused():
    stopped = run(WarmupCosine, 10)
    stopped.lr_scheduler_configs[0].scheduler.last_epoch = 10**12
    with pytest.raises(UserError, match="too many"):
        resumed(stopped, WarmupCosine, 20)
