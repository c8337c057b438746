"""Schedules by class path: which arguments are filled in, when they step, and how guards cut them."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from chosen_task import Chosen
from jsonargparse import Namespace
from tiny_task import Shades
from torch.optim import lr_scheduler as schedules

from kit.cli import process, verbs
from kit.config.parser import Parser
from kit.ground.errors import UserError
from kit.safeguards.nan.step import scale_learning_rates
from kit.training.schedule import Interval, Schedule, WarmupCosine, optimizer_and_schedule

TORCH = "torch.optim.lr_scheduler"
STEPS, EPOCHS, RATE = 12, 3, 0.1
RUN = {
    "trainer": {"max_epochs": 3, "accelerator": "cpu", "val_check_interval": 0.5},
    "model": {
        "class_path": "chosen_task.Chosen",
        "init_args": {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.03}}},
    },
    "data": {"class_path": "tiny_task.Shades", "init_args": {"batch_size": 5, "val": 12}},
    "check": "off",
    "overfitting": {"enabled": False},
    "dashboard": {"enabled": False},
}


def chosen(*args: str) -> Namespace:
    """Return a factory of schedules, as the command line makes it."""
    parser = Parser()
    parser.add_argument("--schedule", type=Schedule | None)
    parser.add_argument("--schedule_interval", type=Interval | None)
    return parser.instantiate(parser.read(list(args)))


def task(steps: float = STEPS, **trainer: Any) -> Any:
    """Return the parts of a task and its trainer that are needed."""
    known = {"estimated_stepping_batches": steps, "num_training_batches": STEPS // EPOCHS, "is_global_zero": True}
    known |= {"accumulate_grad_batches": 1, "enable_validation": True, "check_val_every_n_epoch": 2}
    weights = [torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))]
    named = list(zip(("weight", "bias"), weights, strict=True))
    own = {"named_parameters": lambda: named, "monitor": "val/score", "mode": "max"}
    return SimpleNamespace(trainer=SimpleNamespace(**known | trainer), **own)


def adam(groups: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, lr=RATE)


def made(*args: str, **trainer: Any) -> dict[str, Any]:
    """Return Lightning's description of a schedule from the command line."""
    given = chosen(*args)
    return optimizer_and_schedule(task(**trainer), adam, given.schedule, given.schedule_interval)["lr_scheduler"]


def rates(scheduler: Any, count: int = STEPS - 1) -> list[float]:
    found = [scheduler.optimizer.param_groups[0]["lr"]]
    for _ in range(count):
        scheduler.optimizer.step()
        scheduler.step()
        found.append(scheduler.optimizer.param_groups[0]["lr"])
    return found


def wanted(maker: Any, count: int = STEPS - 1) -> list[float]:
    return rates(maker(adam([torch.nn.Parameter(torch.ones(1))])), count)


KNOWN = [  # a class, its arguments, when it steps, and the same made by hand
    ("OneCycleLR", {}, "step", lambda o: schedules.OneCycleLR(o, RATE, STEPS)),
    ("OneCycleLR", {"max_lr": 0.7}, "step", lambda o: schedules.OneCycleLR(o, 0.7, STEPS)),
    ("OneCycleLR", {"total_steps": 20}, "step", lambda o: schedules.OneCycleLR(o, RATE, 20)),
    ("OneCycleLR", {"epochs": 5, "steps_per_epoch": 4}, "step", lambda o: schedules.OneCycleLR(o, RATE, 20)),
    ("CosineAnnealingLR", {}, "step", lambda o: schedules.CosineAnnealingLR(o, STEPS)),
    ("CosineAnnealingLR", {"T_max": 5}, "epoch", lambda o: schedules.CosineAnnealingLR(o, 5)),
    ("StepLR", {"step_size": 2}, "epoch", lambda o: schedules.StepLR(o, 2)),
    ("ExponentialLR", {"gamma": 0.9}, "epoch", lambda o: schedules.ExponentialLR(o, 0.9)),
    ("CosineAnnealingWarmRestarts", {"T_0": 3}, "epoch", lambda o: schedules.CosineAnnealingWarmRestarts(o, 3)),
    ("MultiStepLR", {"milestones": [2, 4]}, "epoch", lambda o: schedules.MultiStepLR(o, [2, 4])),
    ("PolynomialLR", {}, "epoch", lambda o: schedules.PolynomialLR(o)),
    ("CyclicLR", {"base_lr": 0.01}, "epoch", lambda o: schedules.CyclicLR(o, 0.01, RATE)),
]


@pytest.mark.parametrize(
    ("name", "arguments", "interval", "maker"), KNOWN, ids=[f"{name}-{arguments}" for name, arguments, *_ in KNOWN]
)
def test_schedule_gets_its_arguments_and_the_run_length(name, arguments, interval, maker):
    given = [f"--schedule.{key}={value}" for key, value in arguments.items()]
    found = made("--schedule", f"{TORCH}.{name}", *given)
    assert found["interval"] == interval
    assert rates(found["scheduler"]) == wanted(maker)


def test_warmup_cosine_steps_with_the_optimizer(capsys):
    found = made("--schedule", "kit.training.schedule.WarmupCosine", "--schedule.warmup", "0.25")
    assert found["interval"] == "step"
    assert rates(found["scheduler"]) == wanted(lambda o: WarmupCosine(o, STEPS, 0.25))
    assert optimizer_and_schedule(task(), adam, WarmupCosine)["lr_scheduler"]["interval"] == "step"
    assert "schedule: WarmupCosine over 12 steps, stepped after each optimizer step" in capsys.readouterr().out


def test_interval_can_be_chosen_and_changes_the_length(capsys):
    by_epochs = made("--schedule", f"{TORCH}.CosineAnnealingLR", "--schedule_interval", "epoch")
    assert by_epochs["interval"] == "epoch"
    assert by_epochs["scheduler"].T_max == EPOCHS
    assert "CosineAnnealingLR over 3 epochs, stepped after each epoch" in capsys.readouterr().out
    by_steps = made("--schedule", f"{TORCH}.ExponentialLR", "--schedule.gamma", "0.9", "--schedule_interval", "step")
    assert by_steps["interval"] == "step"


def test_accumulated_batches_give_fewer_steps():
    found = made(
        *("--schedule", f"{TORCH}.CosineAnnealingLR", "--schedule_interval", "epoch"),
        **{"steps": 6, "num_training_batches": 4, "accumulate_grad_batches": 2},
    )
    assert found["scheduler"].T_max == EPOCHS


def test_plateau_follows_the_monitor_of_the_task(capsys):
    found = made("--schedule", f"{TORCH}.ReduceLROnPlateau", "--schedule.patience", "1", "--schedule.factor", "0.5")
    assert (found["monitor"], found["scheduler"].mode, found["scheduler"].patience) == ("val/score", "max", 1)
    assert found["frequency"] == 2
    assert "stepped after each validated epoch" in capsys.readouterr().out


def test_plateau_does_not_count_epochs_without_a_validation():
    with pytest.raises(UserError, match=r"trainer\.check_val_every_n_epoch 1"):
        made("--schedule", f"{TORCH}.ReduceLROnPlateau", check_val_every_n_epoch=None)


def test_function_can_make_any_schedule():
    def function(optimizer):
        return schedules.SequentialLR(
            optimizer, [schedules.ConstantLR(optimizer), schedules.ExponentialLR(optimizer, 0.9)], [2]
        )

    found = optimizer_and_schedule(task(), adam, function)["lr_scheduler"]
    assert isinstance(found["scheduler"], schedules.SequentialLR)
    assert found["interval"] == "epoch"


MISTAKES = [
    (["StepLR"], ["schedule.step_size", "missing"]),
    (["SequentialLR"], ["schedule.schedulers", "missing"]),
    (["ChainedScheduler"], ["model.schedule cannot be used", "Adam"]),
    (["OneCycleLR", "--schedule.total_steps", "11"], ["OneCycleLR", "11", "12"]),
    (["OneCycleLR", "--schedule.pct_start", "7.0"], ["model.schedule", "pct_start"]),
    (["ExponentialLR", "--schedule.gama", "0.9"], ["schedule.gama", "gamma"]),
    (["ReduceLROnPlateau", "--schedule_interval", "step"], ["ReduceLROnPlateau", "schedule_interval"]),
]


@pytest.mark.parametrize(("args", "words"), MISTAKES, ids=[args[0] for args, _ in MISTAKES])
def test_mistake_is_reported_in_one_line(args, words):
    with pytest.raises(UserError) as caught:
        made("--schedule", f"{TORCH}.{args[0]}", *args[1:])
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value


def test_owners_schedule_raises_its_own_exception():
    class Wrong(schedules.ConstantLR):
        def get_lr(self):
            return self.missing

    with pytest.raises(AttributeError, match="missing"):
        optimizer_and_schedule(task(), adam, Wrong)


def test_optimizer_that_cannot_be_made():
    with pytest.raises(UserError, match=r"model\.optimizer.*LBFGS"):
        optimizer_and_schedule(task(), torch.optim.LBFGS, None)
    with pytest.raises(UserError, match="no validation"):
        made("--schedule", f"{TORCH}.ReduceLROnPlateau", enable_validation=False)


def test_only_a_schedule_with_a_length_needs_the_run_length():
    with pytest.raises(UserError, match=r"trainer\.max_epochs"):
        made("--schedule", f"{TORCH}.CosineAnnealingLR", steps=float("inf"))
    assert made("--schedule", f"{TORCH}.StepLR", "--schedule.step_size", "2", steps=float("inf"))["interval"] == "epoch"


@pytest.mark.parametrize(("steps", "interval"), [(-1, "step"), (10, "epoch")])
def test_endless_training_data_need_a_number_of_steps(steps, interval):
    words = ("--schedule", f"{TORCH}.CosineAnnealingLR", "--schedule_interval", interval)
    with pytest.raises(UserError, match=r"trainer\.max_steps"):
        made(*words, steps=steps, num_training_batches=float("inf"))


@pytest.mark.parametrize(("name", "arguments", "interval", "maker"), KNOWN, ids=[name for name, *_ in KNOWN])
def test_cut_learning_rate_stays_with_every_schedule(name, arguments, interval, maker):
    cut = maker(adam([torch.nn.Parameter(torch.ones(1))]))
    rates(cut, 4)
    trainer: Any = SimpleNamespace(optimizers=[cut.optimizer], lr_scheduler_configs=[SimpleNamespace(scheduler=cut)])
    scale_learning_rates(trainer, 0.5)
    assert rates(cut, 6)[1:] == pytest.approx([rate / 2 for rate in wanted(maker, 10)[5:]])


def test_cut_learning_rate_lowers_the_minimum():
    floor = lambda o: schedules.CosineAnnealingLR(o, 8, eta_min=0.05)  # noqa: E731
    test_cut_learning_rate_stays_with_every_schedule("", {}, "", floor)


class Rates(L.Callback):
    """Record the learning rate of each step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer, *_: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def trained(model: L.LightningModule, **options: Any) -> tuple[list[float], L.Trainer]:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "num_sanity_val_steps": 0}
    rates = Rates()
    known = {"accelerator": "cpu", "enable_model_summary": False, "callbacks": [rates]}
    trainer = L.Trainer(**{**quiet, **known, "use_distributed_sampler": False, **options})
    trainer.fit(model, datamodule=Shades(train=20, val=6, batch_size=5))  # 4 batches an epoch
    return rates.rates, trainer


def chosen_task(schedule: Any, **options: Any) -> Chosen:
    return Chosen(num_classes=3, in_channels=3, optimizer=adam, schedule=schedule, **options)


def test_rates_of_a_run_with_accumulated_batches():
    halving = lambda optimizer: schedules.ExponentialLR(optimizer, 0.5)  # noqa: E731
    found, _ = trained(chosen_task(halving), max_epochs=3, accumulate_grad_batches=2)
    assert found == pytest.approx([0.1] * 4 + [0.05] * 4 + [0.025] * 4)
    found, trainer = trained(chosen_task(halving, schedule_interval="step"), max_epochs=1, accumulate_grad_batches=2)
    assert found == pytest.approx([0.1, 0.1, 0.05, 0.05])
    _, trainer = trained(chosen_task(schedules.OneCycleLR), max_epochs=3, accumulate_grad_batches=2)
    assert trainer.lr_scheduler_configs[0].scheduler.total_steps == trainer.global_step == 6


class Still(Chosen):
    """Its metric never improves, so that a plateau of patience 0 halves the rate from the second validation on."""

    def on_validation_epoch_end(self):
        self.log("val/accuracy", 0.5)


def test_plateau_counts_validated_epochs():
    arguments = {"num_classes": 3, "in_channels": 3, "optimizer": adam}
    plateau = partial(schedules.ReduceLROnPlateau, factor=0.5, patience=0)
    each, _ = trained(Still(schedule=plateau, **arguments), max_epochs=3)
    assert each == pytest.approx([0.1] * 8 + [0.05] * 4)
    every_other, _ = trained(Still(schedule=plateau, **arguments), max_epochs=5, check_val_every_n_epoch=2)
    assert every_other == pytest.approx([0.1] * 16 + [0.05] * 4)


class Killed(BaseException):
    pass


RESUMED = {"ReduceLROnPlateau": ["patience", "0"], "OneCycleLR": ["pct_start", "0.5"], "StepLR": ["step_size", "1"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", RESUMED)
def test_resumed_run_has_the_same_rates(name, monkeypatch):
    process.quiet()
    Path("tiny.yaml").write_text(yaml.safe_dump(RUN))
    key, value = RESUMED[name]
    everything = ["--config", "tiny.yaml", "--model.schedule", f"{TORCH}.{name}", f"--model.schedule.{key}", value]
    verbs.fit([*everything, "--name", "whole"])
    calls, method = 0, Chosen.validation_step

    def counted(self, batch, batch_idx):
        nonlocal calls
        calls += 1
        if calls == 8:  # in the third validation of six, of three batches each
            raise Killed
        return method(self, batch, batch_idx)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Chosen, "validation_step", counted)
        verbs.fit([*everything, "--name", "killed"])
    verbs.fit(["--resume", "runs/killed/version_0", "--trust", "chosen_task", "--trust", "tiny_task"])
    contents = [
        torch.load(f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True) for name in ("whole", "killed")
    ]
    for key in ("lr_schedulers", "global_step"):
        assert contents[0][key] == contents[1][key]
    weights = [content["state_dict"] for content in contents]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
