"""A bad step is as if it had never been; a bad run goes back, or stops and says why."""

import copy
import json
import math
import random
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.plugins.precision import MixedPrecision
from poison import Poison
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from kit.cli import verbs
from kit.ground.errors import UserError
from kit.safeguards import NanGuard
from kit.safeguards.nan import guard as nan_guard
from kit.safeguards.nan import signs as nan_signs
from kit.safeguards.nan.guard import Diverged
from kit.safeguards.nan.replay import remember, replay
from kit.safeguards.nan.report import advice
from kit.safeguards.nan.rollback import cut_learning_rates
from kit.safeguards.nan.signs import FEWEST, LONG, Runaway
from kit.training import EMA

NAN = float("nan")
PARTS = Path(__file__).resolve().parent.parent / "parts"


class Own(L.LightningModule):
    """A user's own module, whose batches are pairs."""

    def __init__(self, optimizer, schedule=None):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
        self.seen = MeanMetric()
        self.made, self.schedule = optimizer, schedule

    def training_step(self, batch):
        inputs, targets = batch
        self.seen.update(inputs.sum())
        loss = (self.net(inputs) - targets).square().mean()
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self):
        made = self.made(self.parameters())
        return (
            made
            if self.schedule is None
            else {"optimizer": made, "lr_scheduler": {"scheduler": self.schedule(made), "interval": "step"}}
        )


def adam(parameters):
    return torch.optim.AdamW(parameters, 0.01, weight_decay=0.5)


def fused_adam(parameters):
    return torch.optim.AdamW(parameters, 0.01, weight_decay=0.5, fused=True)


def sgd(parameters):
    return torch.optim.SGD(parameters, 0.01, momentum=0.9, weight_decay=0.5)


def batches(count):
    generator = torch.Generator().manual_seed(0)
    return [tuple(torch.randn(5, n, generator=generator) for n in (3, 1)) for _ in range(count)]


def train(data, *callbacks, optimizer=adam, schedule=None, model=None, **options):
    """Returns the model and the trainer, after one epoch of these batches."""
    torch.manual_seed(0)
    model = model or Own(optimizer, schedule)
    silent = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=list(callbacks), enable_model_summary=False, **silent, **options
    )
    trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=None))
    return model, trainer


def state(model, trainer):
    """All that a step changes."""
    averaged = [c._average_model.state_dict() for c in trainer.callbacks if isinstance(c, EMA)]
    return model.state_dict(), trainer.optimizers[0].state_dict()["state"], averaged


def assert_equal(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("optimizer", [adam, fused_adam, sgd])
@pytest.mark.parametrize("where", ["input", "loss", "gradient"])
def test_a_bad_step_is_as_if_its_batch_had_never_been(where, optimizer, capsys):
    guard = NanGuard()
    found = train(batches(6), Poison(where, [3]), guard, EMA(0.9), optimizer=optimizer)
    data = batches(6)
    del data[3]
    wanted = train(data, EMA(0.9), optimizer=optimizer)
    assert_equal(state(*found), state(*wanted))
    assert (guard.skipped, guard.rollbacks, found[1].global_step) == (1, 0, 6)
    said = capsys.readouterr().out
    assert "epoch 1 step 3" in said and "batch 3 of the epoch" in said and said.count("\n") == 2


@pytest.mark.parametrize("steps", [[3], [0], [3, 4], [7]])
def test_on_the_device_too_where_the_host_hears_of_it_a_step_later(steps, monkeypatch, capsys):
    monkeypatch.setattr(nan_guard, "skips_on_device", lambda trainer: True)
    guard = NanGuard()
    found = train(batches(8), Poison("input", steps), guard, optimizer=fused_adam)
    assert guard.skipped == len(steps)
    data = [batch for place, batch in enumerate(batches(8)) if place not in steps]
    assert_equal(state(*found), state(*train(data, optimizer=fused_adam)))
    assert f"batch {steps[0]} of the epoch (input not finite" in capsys.readouterr().out


@pytest.mark.parametrize("late", [False, True])
def test_a_bad_batch_spoils_all_whose_gradients_are_added_up(late, monkeypatch, capsys):
    monkeypatch.setattr(nan_guard, "skips_on_device", lambda trainer: late)
    data = batches(8)
    data[2][0].fill_(NAN)
    found = train(data, NanGuard(), optimizer=fused_adam, accumulate_grad_batches=2)
    wanted = train(batches(2) + batches(8)[4:], optimizer=fused_adam, accumulate_grad_batches=2)
    assert_equal(state(*found), state(*wanted))
    assert "in batch 2 of the epoch (input not finite" in capsys.readouterr().out


def test_without_it_a_nan_stays():
    guard = NanGuard(enabled=False)
    model, trainer = train(batches(3), Poison("input", [1]), guard)
    assert guard not in trainer.callbacks
    assert model.net[0].weight.isnan().all()


def halving(optimizer):
    return LambdaLR(optimizer, lambda step: 0.5**step)


def test_the_schedule_goes_on_and_is_cut_for_good():
    rates = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, *_):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"] / 0.01)

    guard = NanGuard(patience=2, lr_factor=0.1)
    train(batches(6), Poison("gradient", [1, 2, 4]), guard, Watch(), schedule=halving)
    assert rates == pytest.approx([0.5, 0.25, 0.0125, 0.00625, 0.003125, 0.0015625])
    assert (guard.skipped, guard.rollbacks, guard.streak) == (3, 1, 0)


def test_every_schedule_that_keeps_rates_of_its_own_is_cut():
    optimizer = sgd([nn.Parameter(torch.zeros(1))])
    schedules = torch.optim.lr_scheduler
    inner = [schedules.ConstantLR(optimizer, 0.5), schedules.CosineAnnealingLR(optimizer, 5)]
    outer = schedules.SequentialLR(optimizer, inner, [3])
    trainer = type("", (), {"optimizers": [optimizer], "lr_scheduler_configs": [type("", (), {"scheduler": outer})]})
    before = optimizer.param_groups[0]["lr"]
    cut_learning_rates(trainer, 0.1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(before * 0.1)
    assert optimizer.param_groups[0]["initial_lr"] == pytest.approx(0.001)
    assert [rate for schedule in inner for rate in schedule.base_lrs] == pytest.approx([0.001, 0.001])


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("steps", "cut"), [([10], 0.5), ([30], 1.0), ([30, 33], 0.5)])
def test_weights_that_are_not_finite_go_back_at_once(late, steps, cut, monkeypatch, capsys):
    """The learning rate is cut where too little is known of the loss to say that it was as usual, or it comes again."""
    monkeypatch.setattr(nan_guard, "skips_on_device", lambda trainer: late)
    guard = NanGuard(snapshot_every=2)
    averaged = [] if late else [EMA(0.9)]
    model, trainer = train(batches(40), Poison("weight", steps), guard, *averaged, optimizer=fused_adam)
    assert (guard.skipped, guard.rollbacks) == (len(steps), len(steps))
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.01 * cut
    assert all(value.isfinite().all() for value in model.state_dict().values())
    said = capsys.readouterr().out
    assert "weights not finite: net.0.weight" in said and "the weights are not finite: back to the state of" in said


def test_going_back_is_to_the_state_that_was_kept():
    model, trainer = train(batches(5), Poison("weight", [4]), NanGuard(), optimizer=sgd)
    torch.manual_seed(0)
    assert_equal(model.state_dict(), Own(sgd).state_dict())  # that of the start
    assert not trainer.optimizers[0].state_dict()["state"]


TRUSTED = [(29, 0), (49, 0), (50, 29), (79, 29), (80, 59)]  # good steps, and the step gone back to after them


@pytest.mark.parametrize(("steps", "wanted"), TRUSTED)
def test_a_state_is_trusted_after_twenty_good_steps(steps, wanted):
    guard = NanGuard(snapshot_every=30)
    train(batches(steps), guard)
    assert guard.snapshots.trusted["step"] == wanted


def test_after_too_many_it_stops_and_says_why(capsys):
    guard = NanGuard(patience=2, max_rollbacks=1)
    with pytest.raises(
        Diverged, match=r"2 bad steps in a row, after 1 roll-backs; epoch 1 step 5: the loss is not finite.*; try"
    ) as e:
        train(batches(9), Poison("input", range(3, 9)), guard)
    assert e.value.exit_code == 1 and "\n" not in str(e.value)
    assert guard.skipped == 4


def test_a_loss_that_runs_away_goes_back(capsys):
    """Its targets become a million times as large."""
    data = batches(FEWEST) + [(inputs, targets * 1e6) for inputs, targets in batches(LONG)] + batches(5)
    guard = NanGuard(snapshot_every=5)
    train(data, guard)
    assert (guard.skipped, guard.rollbacks) == (0, 1)
    assert "run away: back to the state of step 19" in capsys.readouterr().out


LOSSES = [  # the losses, and which of them shows that the run is lost
    ([1.0] * FEWEST + [100.0] * LONG, FEWEST + LONG),
    ([1.0] * FEWEST + [100.0] * (LONG - 1) + [1.0] + [100.0] * (LONG - 1), None),
    ([1.0] * FEWEST + [10.9] * 3 * LONG, None),
    ([100.0] * FEWEST + [0.001] * 500, None),
    ([1.0] * (FEWEST // 4) + [100.0] * 500, None),
    ([0.001, 0.002] * 100 + [2.3] * LONG, 200 + LONG),
    ([-1.0, 1.0] * 100 + [9.0] * LONG, None),
    ([-1.0, 1.0] * 100 + [12.0] * LONG, 200 + LONG),
    ([math.exp(random.Random(n).gauss(0, 1)) for n in range(5000)], None),  # as noisy as losses come
]


@pytest.mark.parametrize(("losses", "wanted"), LOSSES)
def test_runaway(losses, wanted):
    sign = Runaway()
    seen = [sign.seen(loss) for loss in losses]
    assert (seen.index(True) + 1 if True in seen else None) == wanted


class Before(L.Callback):
    """The state before each step."""

    def __init__(self):
        self.states = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.states.append(copy.deepcopy(state(pl_module, trainer)))


@pytest.mark.parametrize("optimizer", [sgd, fused_adam])
@pytest.mark.parametrize("where", ["gradient", "loss"])
@pytest.mark.parametrize(("scale", "skipped"), [(256.0, 0), (0.5, 1)])
def test_fp16s_search_for_its_scale_is_no_alarm(scale, skipped, where, optimizer, capsys):
    """Where the scale is high the step is left out all the same; below 1 nothing is left to search."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    guard, before = NanGuard(), Before()
    precision = MixedPrecision("16-mixed", "cpu", scaler)
    train(batches(6), Poison(where, [3]), guard, EMA(0.9), before, optimizer=optimizer, plugins=[precision])
    assert_equal(before.states[3], before.states[4])
    assert not torch.equal(before.states[4][0]["net.0.weight"], before.states[5][0]["net.0.weight"])
    assert scaler.get_scale() == scale / 2
    assert guard.skipped == skipped and bool(capsys.readouterr().out) == bool(skipped)


class Edge(Own):
    """The root of zero, whose derivative is infinite, times zero."""

    def training_step(self, batch):
        loss = super().training_step(batch)
        return loss + (0 * self.net[0].weight).sum().sqrt() * 0


class Overflow(nn.Module):
    def forward(self, inputs):
        return inputs * 1e38 * 1e38


def test_the_operation_and_the_module_are_found_and_no_trace_is_left():
    torch.manual_seed(0)
    model = Edge(adam)
    L.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu").strategy.connect(model)
    trainer = L.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False)
    model.trainer = trainer
    before = {key: value.clone() for key, value in model.state_dict().items()}
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    batch = batches(1)[0]
    step = remember(batch, 0, torch.device("cpu"))
    seen = replay(trainer, model, step)
    assert seen.operation == "SqrtBackward0" and math.isfinite(seen.loss) and seen.module is None
    model.net.insert(1, Overflow())
    seen = replay(trainer, model, step)
    assert (seen.module, seen.given) == ("net.1 (Overflow)", True)
    del model.net[1]
    assert_equal(before, dict(model.state_dict()))
    assert model.seen.update_count == 0 and all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(generators[0], torch.get_rng_state())
    assert generators[1:] == (random.getstate(), np.random.get_state()[1].tolist())


def test_a_step_that_cannot_be_repeated_is_reported_all_the_same(capsys):
    class Once(Own):
        def training_step(self, batch):
            if self.trainer.global_step == 1 and self.trainer.loggers:  # the replay's silent one
                raise ValueError("not again")
            return super().training_step(batch)

    guard = NanGuard()
    train(batches(3), Poison("gradient", [1]), guard, model=Once(adam))
    assert guard.skipped == 1 and "largest gradient: net.0.weight" in capsys.readouterr().out


GOOD = {"input_finite": True, "weights_not_finite": [], "precision": "32-true", "backward": None, "loss": 1.0}
GOOD |= {"module": None, "found": True, "not_repeated": None, "highest_rate": 0.1, "clipped": True, "rate_flag": "--lr"}
ADVICE = [  # what is known, what is tried first
    ({"input_finite": False, "weights_not_finite": ["a"]}, "look at these files"),
    (
        {"weights_not_finite": ["a"], "backward": "SqrtBackward0"},
        "a lower learning rate (the highest is 0.1): --lr 0.01",
    ),
    ({"precision": "16-mixed", "backward": "SqrtBackward0"}, "--trainer.precision bf16-mixed"),
    ({"backward": "SqrtBackward0"}, "keep what Sqrt gets away from the edge"),
    ({"loss": NAN}, "the loss itself"),
    ({"loss": NAN, "module": "a (Linear)"}, "a lower learning rate"),
    ({"found": False}, "nothing, if it stays alone"),
    ({}, "a lower learning rate"),
]


@pytest.mark.parametrize(("known", "first"), ADVICE)
def test_advice(known, first):
    assert advice("gradient", GOOD | known)[0].startswith(first)


def test_parameters_that_no_gradient_reaches_are_told_of_once(monkeypatch, capsys):
    for module in (nan_guard, nan_signs):
        monkeypatch.setattr(module, "SILENT_STEPS", 20)

    class Dead(Own):
        def training_step(self, batch):
            return super().training_step(batch) + 0 * self.dead.sum()

    model = Dead(adam)
    model.dead, model.frozen = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2), requires_grad=False)
    train(batches(19), NanGuard(), model=model)
    assert capsys.readouterr().out == ""
    train(batches(25), NanGuard(), model=model)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "no gradient has reached dead for 20 steps" in said


def test_optimizing_by_hand_is_refused_with_a_reason():
    model = Own(adam)
    model.automatic_optimization = False
    with pytest.raises(UserError, match=r"Own steps its optimizers by hand.*--nan_guard.enabled false"):
        train(batches(1), NanGuard(), model=model)
    train(batches(1), NanGuard(enabled=False), model=model)


@pytest.mark.parametrize("wrong", [{"patience": 0}, {"lr_factor": 0.0}, {"max_rollbacks": -1}, {"snapshot_every": 0}])
def test_values_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError, match="nan_guard: "):
        NanGuard(**wrong)


@pytest.fixture
def tiny(monkeypatch):
    """The command line over the tiny task, nine steps an epoch, poisoned; returns the last weights of a run."""
    monkeypatch.syspath_prepend(str(PARTS))

    def run(name, epochs, where="gradient", steps=(), resume=False, *options):
        poison = {"class_path": "poison.Poison", "init_args": {"where": where, "steps": list(steps)}}
        config = {
            "trainer": {"max_epochs": epochs, "accelerator": "cpu", "callbacks": [poison]},
            "model": {"class_path": "tiny_task.Judge"},
            "data": {"class_path": "tiny_task.Shades", "init_args": {"batch_size": 4}},
        }
        Path("tiny.yaml").write_text(yaml.safe_dump(config))
        begin = ["--resume", f"runs/{name}/version_0"] if resume else ["--config", "tiny.yaml", "--name", name]
        verbs.fit([*begin, "--trainer.max_epochs", str(epochs), "--early_stopping.patience", "null", *options])
        content = torch.load(f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)
        return content["state_dict"], content["optimizer_states"], content["callbacks"]["NanGuard"]

    return run


RESUMED = [  # what is poisoned, at which of 27 steps; the run is resumed after the ninth
    pytest.param("gradient", [4], marks=pytest.mark.slow),
    ("gradient", [7, 8, 9, 10, 11]),  # a streak that the checkpoint falls into
    pytest.param("weight", [14], marks=pytest.mark.slow),
    pytest.param("weight", [10], marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("where", "steps"), RESUMED)
def test_a_resumed_run_goes_back_to_what_the_whole_one_does(where, steps, tiny):
    straight = tiny("straight", 3, where, steps)
    tiny("halved", 1, where, steps)
    resumed = tiny("halved", 3, where, steps, resume=True)
    assert_equal(resumed[:2], straight[:2])
    assert repr(resumed[2]) == repr(straight[2])
    assert straight[2]["rollbacks"] == (len(steps) > 1 or where == "weight")


def test_a_report_names_the_files_as_json_and_in_tensorboard(tiny, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tiny("told", 1, "input", [3])
    run = Path("runs/told/version_0")
    facts = json.loads((run / "nan_guard_1.json").read_text())
    assert (facts["epoch"], facts["step"], facts["input_finite"], facts["loss"]) == (1, 3, False, "nan")
    assert facts["module"] == "net (Linear)" and facts["files"][0].startswith("sample ")
    assert len(facts["files"]) == 1 and facts["gradients"][0]["nan"] > 0  # the one image that is poisoned
    assert facts["try"][0].startswith("look at these files")
    said = capsys.readouterr().out
    assert f"nan_guard: epoch 1 step 3: the loss is not finite, in {facts['files'][0]} (input not finite" in said
    assert "nan_guard/text_summary" in EventAccumulator(str(run)).Reload().Tags()["tensors"]


def test_two_processes_agree_and_one_of_them_speaks(ranks):
    """Only the second one's input is bad. It is skipped by both, and after too much of it both stop."""
    poison = {"class_path": "poison.Poison", "init_args": {"where": "input", "steps": [1, 4, 5, 6, 7, 8, 9], "rank": 1}}
    config = {
        "trainer": {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "max_epochs": 9, "callbacks": [poison]},
        "model": {"class_path": "tiny_task.Judge"},
        "data": {"class_path": "tiny_task.Shades", "init_args": {"batch_size": 4}},
        "nan_guard": {"patience": 2, "max_rollbacks": 1},
    }
    Path("tiny.yaml").write_text(yaml.safe_dump(config))
    ended = ranks("tiny_app.fit", "--config", "tiny.yaml")
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.count("error: ") == 1 and "Traceback" not in ended.stderr
    assert "2 bad steps in a row, after 1 roll-backs" in ended.stderr
    facts = json.loads(Path("runs/tiny/version_0/nan_guard_1.json").read_text())
    assert (facts["rank"], facts["step"], facts["input_finite"]) == (1, 1, False)
    assert ended.stdout.count("nan_guard: epoch") == 3


def test_of_batches_that_are_added_up_the_bad_one_is_named(capsys):
    """Long before the last, whose images are the only ones to be held still."""
    data = batches(12)
    data[2][0][0] = NAN
    train(data, NanGuard(), accumulate_grad_batches=12)
    assert "in batch 2 of the epoch (input not finite" in capsys.readouterr().out


def test_of_batches_that_are_added_up_few_are_held():
    guard = NanGuard()
    train(batches(11), guard, accumulate_grad_batches=12)
    assert [step.batch_idx for step in guard._steps] == [7, 8, 9, 10]


def test_without_an_optimizer_there_is_nothing_to_guard():
    model = Own(None)
    model.configure_optimizers = lambda: None
    train(batches(2), NanGuard(), model=model)
