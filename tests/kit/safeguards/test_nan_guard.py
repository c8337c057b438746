"""Bad steps are skipped without a trace; a bad run restores a good state, or stops with a reason."""

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
from refused import assert_refused
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from kit.cli import verbs
from kit.ground.errors import RunFailed, UserError
from kit.safeguards import NanGuard
from kit.safeguards.nan.report import rerun, suggestions
from kit.safeguards.nan.step import MAX_HIGH_LOSSES, MIN_LOSSES, DivergenceDetector, scale_learning_rates
from kit.training import EMA

NAN = float("nan")
PARTS = Path(__file__).resolve().parent.parent / "parts"


class PlainModule(L.LightningModule):
    """A user's own module, whose batches are pairs."""

    def __init__(self, optimizer, schedule=None):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
        self.metric = MeanMetric()
        self.optimizer, self.schedule = optimizer, schedule

    def training_step(self, batch):
        inputs, targets = batch
        self.metric.update(inputs.sum())
        loss = (self.net(inputs) - targets).square().mean()
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self):
        optimizer = self.optimizer(self.parameters())
        if self.schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.schedule(optimizer), "interval": "step"}}


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
    """Return the model and the trainer after one epoch of these batches."""
    torch.manual_seed(0)
    model = model or PlainModule(optimizer, schedule)
    silent = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=list(callbacks), enable_model_summary=False, **silent, **options
    )
    trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=None))
    return model, trainer


def state(model, trainer):
    """Return all that a step changes."""
    averaged = [c._average_model.state_dict() for c in trainer.callbacks if isinstance(c, EMA)]
    return model.state_dict(), trainer.optimizers[0].state_dict()["state"], averaged


def assert_equal(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize("optimizer", [adam, fused_adam, sgd])
@pytest.mark.parametrize("where", ["input", "loss", "gradient"])
def test_bad_step_leaves_no_trace(where, optimizer, capsys):
    guard = NanGuard()
    result = train(batches(6), Poison(where, [3]), guard, EMA(0.9), optimizer=optimizer)
    data = batches(6)
    del data[3]
    expected = train(data, EMA(0.9), optimizer=optimizer)
    assert_equal(state(*result), state(*expected))
    assert (guard.skipped, guard.rollbacks, result[1].global_step) == (1, 0, 6)
    output = capsys.readouterr().out
    assert "epoch 1 step 3" in output and "batch 3 of the epoch" in output and output.count("\n") == 2


@pytest.mark.parametrize("steps", [[0], [3, 4], [7]])
def test_bad_steps_at_the_start_the_end_and_in_a_row_leave_no_trace(steps, capsys):
    guard = NanGuard()
    result = train(batches(8), Poison("input", steps), guard, optimizer=fused_adam)
    assert guard.skipped == len(steps)
    data = [batch for index, batch in enumerate(batches(8)) if index not in steps]
    assert_equal(state(*result), state(*train(data, optimizer=fused_adam)))
    assert f"batch {steps[0]} of the epoch (input not finite" in capsys.readouterr().out


def test_step_of_accumulated_gradients_with_one_bad_batch_is_skipped(capsys):
    data = batches(8)
    data[2][0].fill_(NAN)
    result = train(data, NanGuard(), optimizer=fused_adam, accumulate_grad_batches=2)
    expected = train(batches(2) + batches(8)[4:], optimizer=fused_adam, accumulate_grad_batches=2)
    assert_equal(state(*result), state(*expected))
    assert "in batch 2 of the epoch (input not finite" in capsys.readouterr().out


def test_disabled_guard_lets_nan_through():
    guard = NanGuard(enabled=False)
    model, trainer = train(batches(3), Poison("input", [1]), guard)
    assert guard not in trainer.callbacks
    assert model.net[0].weight.isnan().all()


def halving(optimizer):
    return LambdaLR(optimizer, lambda step: 0.5**step)


def test_schedule_continues_with_lower_rates():
    rates = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, *_):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"] / 0.01)

    guard = NanGuard(patience=2, lr_factor=0.1)
    train(batches(6), Poison("gradient", [1, 2, 4]), guard, Watch(), schedule=halving)
    assert rates == pytest.approx([0.5, 0.25, 0.0125, 0.00625, 0.003125, 0.0015625])
    assert (guard.skipped, guard.rollbacks, guard.streak) == (3, 1, 0)


def test_learning_rates_of_nested_schedules_are_cut():
    optimizer = sgd([nn.Parameter(torch.zeros(1))])
    schedules = torch.optim.lr_scheduler
    inner = [schedules.ConstantLR(optimizer, 0.5), schedules.CosineAnnealingLR(optimizer, 5)]
    outer = schedules.SequentialLR(optimizer, inner, [3])
    trainer = type("", (), {"optimizers": [optimizer], "lr_scheduler_configs": [type("", (), {"scheduler": outer})]})
    before = optimizer.param_groups[0]["lr"]
    scale_learning_rates(trainer, 0.1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(before * 0.1)
    assert optimizer.param_groups[0]["initial_lr"] == pytest.approx(0.001)
    assert [rate for schedule in inner for rate in schedule.base_lrs] == pytest.approx([0.001, 0.001])


@pytest.mark.parametrize(("steps", "cut"), [([30], 1.0), ([30, 33], 0.5)])
def test_weights_that_are_not_finite_are_restored_at_once(steps, cut, capsys):
    """The learning rate is cut only if it happens again."""
    guard = NanGuard(snapshot_every=2)
    model, trainer = train(batches(40), Poison("weight", steps), guard, EMA(0.9), optimizer=fused_adam)
    assert (guard.skipped, guard.rollbacks) == (len(steps), len(steps))
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.01 * cut
    assert all(value.isfinite().all() for value in model.state_dict().values())
    output = capsys.readouterr().out
    assert "weights not finite: net.0.weight" in output and "the weights are not finite: back to the state of" in output


def test_snapshot_is_restored():
    model, trainer = train(batches(5), Poison("weight", [4]), NanGuard(), optimizer=sgd)
    torch.manual_seed(0)
    assert_equal(model.state_dict(), PlainModule(sgd).state_dict())  # that of the start
    assert not trainer.optimizers[0].state_dict()["state"]


TRUSTED = [
    (29, 0),
    (49, 0),
    (50, 29),
    (79, 29),
    (80, 59),
]  # the number of good steps, and the step of the state that would then be restored


@pytest.mark.parametrize(("steps", "step"), TRUSTED)
def test_snapshot_is_trusted_after_twenty_good_steps(steps, step):
    guard = NanGuard(snapshot_every=30)
    train(batches(steps), guard)
    assert guard.snapshots.trusted["step"] == step


def test_run_stops_with_a_reason_after_too_many_rollbacks(capsys):
    guard = NanGuard(patience=2, max_rollbacks=1)
    with pytest.raises(
        RunFailed, match=r"2 bad steps in a row, after 1 roll-backs; epoch 1 step 5: the loss is not finite.*; try"
    ) as e:
        train(batches(9), Poison("input", range(3, 9)), guard)
    assert e.value.exit_code == 1 and "\n" not in str(e.value)
    assert guard.skipped == 4


def test_diverged_loss_restores_an_earlier_state(capsys):
    """Its targets become a million times as large."""
    data = batches(MIN_LOSSES) + [(inputs, targets * 1e6) for inputs, targets in batches(MAX_HIGH_LOSSES)] + batches(5)
    guard = NanGuard(snapshot_every=5)
    train(data, guard)
    assert (guard.skipped, guard.rollbacks) == (0, 1)
    assert "diverged: back to the state of step 19" in capsys.readouterr().out


LOSSES = [  # the losses, and the number of those after which the run has diverged
    ([1.0] * MIN_LOSSES + [100.0] * MAX_HIGH_LOSSES, MIN_LOSSES + MAX_HIGH_LOSSES),
    ([1.0] * MIN_LOSSES + [100.0] * (MAX_HIGH_LOSSES - 1) + [1.0] + [100.0] * (MAX_HIGH_LOSSES - 1), None),
    ([1.0] * MIN_LOSSES + [10.9] * 3 * MAX_HIGH_LOSSES, None),
    ([100.0] * MIN_LOSSES + [0.001] * 500, None),
    ([1.0] * (MIN_LOSSES // 4) + [100.0] * 500, None),
    ([0.001, 0.002] * 100 + [2.3] * MAX_HIGH_LOSSES, 200 + MAX_HIGH_LOSSES),
    ([-1.0, 1.0] * 100 + [9.0] * MAX_HIGH_LOSSES, None),
    ([-1.0, 1.0] * 100 + [12.0] * MAX_HIGH_LOSSES, 200 + MAX_HIGH_LOSSES),
    ([math.exp(random.Random(n).gauss(0, 1)) for n in range(5000)], None),  # as noisy as losses come
]


@pytest.mark.parametrize(("losses", "count"), LOSSES)
def test_divergence_detector(losses, count):
    detector = DivergenceDetector()
    has_diverged = [detector.update(loss) for loss in losses]
    assert (has_diverged.index(True) + 1 if True in has_diverged else None) == count


class StateBeforeEachStep(L.Callback):
    def __init__(self):
        self.states = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.states.append(copy.deepcopy(state(pl_module, trainer)))


@pytest.mark.parametrize("optimizer", [sgd, fused_adam])
@pytest.mark.parametrize("where", ["gradient", "loss"])
@pytest.mark.parametrize(("scale", "skipped"), [(256.0, 0), (0.5, 1)])
def test_search_of_fp16_for_its_scale_is_no_alarm(scale, skipped, where, optimizer, capsys):
    """The step is skipped at any scale. Below a scale of 1 there is nothing left to search."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    guard, before = NanGuard(), StateBeforeEachStep()
    precision = MixedPrecision("16-mixed", "cpu", scaler)
    train(batches(6), Poison(where, [3]), guard, EMA(0.9), before, optimizer=optimizer, plugins=[precision])
    assert_equal(before.states[3], before.states[4])
    assert not torch.equal(before.states[4][0]["net.0.weight"], before.states[5][0]["net.0.weight"])
    assert scaler.get_scale() == scale / 2
    assert guard.skipped == skipped and bool(capsys.readouterr().out) == bool(skipped)


class Overflow(nn.Module):
    def forward(self, inputs):
        return inputs * 1e38 * 1e38


def test_rerun_finds_the_module_and_leaves_no_trace():
    torch.manual_seed(0)
    model = PlainModule(adam)
    trainer = L.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False)
    model.trainer = trainer
    model.net.insert(1, Overflow())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    facts = rerun(trainer, model, batches(1)[0], 0)
    assert facts == {"loss": "nan", "module": "net.1 (Overflow)", "rerun_error": None}
    assert_equal(before, dict(model.state_dict()))
    assert model.metric.update_count == 0 and all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(generators[0], torch.get_rng_state())
    assert generators[1:] == (random.getstate(), np.random.get_state()[1].tolist())


def test_step_that_cannot_be_rerun_is_reported_too(capsys):
    class Once(PlainModule):
        steps = 0

        def training_step(self, batch):
            Once.steps += 1
            if Once.steps == 3:  # the rerun of the second step
                raise ValueError("not again")
            return super().training_step(batch)

    guard = NanGuard()
    train(batches(3), Poison("gradient", [1]), guard, model=Once(adam))
    assert guard.skipped == 1 and Once.steps == 4
    assert "gradients not finite: net.0.weight" in capsys.readouterr().out
    assert json.loads(Path("nan_guard_1.json").read_text())["rerun_error"].endswith("not again")


FACTS = {"input_finite": True, "weights_not_finite": [], "precision": "32-true", "loss": 1.0, "module": None}
FACTS |= {"highest_rate": 0.1, "rate_flag": "--lr"}
SUGGESTIONS = [  # other facts, and the first suggestion
    ({"input_finite": False, "weights_not_finite": ["a"]}, "look at this input"),
    ({"weights_not_finite": ["a"], "precision": "16-mixed"}, "a lower learning rate (the highest is 0.1): --lr 0.01"),
    ({"precision": "16-mixed"}, "--trainer.precision bf16-mixed"),
    ({"loss": "nan"}, "check the loss"),
    ({"loss": "nan", "module": "a (Linear)"}, "a lower learning rate"),
    ({}, "a lower learning rate"),
]


@pytest.mark.parametrize(("facts", "first"), SUGGESTIONS)
def test_suggestions(facts, first):
    assert suggestions(FACTS | facts)[0].startswith(first)


def test_manual_optimization_is_refused_with_a_reason():
    model = PlainModule(adam)
    model.automatic_optimization = False
    with pytest.raises(UserError, match=r"PlainModule: .* manual optimization; add --nan_guard.enabled false"):
        train(batches(1), NanGuard(), model=model)
    train(batches(1), NanGuard(enabled=False), model=model)


def test_invalid_arguments_are_refused():
    assert_refused(NanGuard, patience=0, lr_factor=1.5, max_rollbacks=-1, snapshot_every=0)


@pytest.fixture
def tiny(monkeypatch):
    """Run the verb `fit` on the tiny task, nine steps an epoch, poisoned. Return what the last checkpoint holds."""
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
def test_resumed_run_restores_the_same_state_as_an_uninterrupted_one(where, steps, tiny):
    straight = tiny("straight", 3, where, steps)
    tiny("halved", 1, where, steps)
    resumed = tiny("halved", 3, where, steps, resume=True)
    assert_equal(resumed[:2], straight[:2])
    assert resumed[2] == straight[2]
    assert straight[2]["rollbacks"] == (len(steps) > 1 or where == "weight")


def test_report_names_the_files(tiny, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tiny("poisoned", 1, "input", [3])
    run = Path("runs/poisoned/version_0")
    facts = json.loads((run / "nan_guard_1.json").read_text())
    assert (facts["epoch"], facts["step"], facts["input_finite"], facts["loss"]) == (1, 3, False, "nan")
    assert facts["module"] == "net (Linear)" and "net.weight" in facts["gradients_not_finite"]
    assert len(facts["files"]) == 1 and facts["files"][0].startswith("sample ")  # the one image that is poisoned
    assert facts["try"][0].startswith("look at this input")
    output = capsys.readouterr().out
    assert f"nan_guard: epoch 1 step 3: the loss is not finite, in {facts['files'][0]} (input not finite" in output
    assert "safeguards/nan_guard/text_summary" in EventAccumulator(str(run)).Reload().Tags()["tensors"]


def test_two_processes_agree_and_one_of_them_reports(ranks):
    """Only the second process has bad input. Both skip the steps, and both stop after too many."""
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


def test_bad_batch_of_accumulated_gradients_is_named(capsys):
    data = batches(12)
    data[2][0][0] = NAN
    train(data, NanGuard(), accumulate_grad_batches=12)
    assert "in batch 2 of the epoch (input not finite" in capsys.readouterr().out


def test_model_without_an_optimizer_runs():
    model = PlainModule(None)
    model.configure_optimizers = lambda: None
    train(batches(2), NanGuard(), model=model)
