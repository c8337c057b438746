"""The precision that a run chooses by the time of its training step."""

from pathlib import Path

import pytest
import tiny_task
import torch
import yaml
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.nn.utils import get_total_norm

from kit.cli import verbs
from kit.training import precision
from kit.training.precision import FULL, MIXED, choose, is_long, speedup_of

FASTER = {FULL: [0.9, 0.75, 9.0], MIXED: [0.5, 3.0, 0.6]}  # by 0.75 / 0.5
SLOWER = {FULL: [0.5, 0.4], MIXED: [0.8, 0.5]}
RUN = {
    "trainer": {"max_epochs": 1, "accelerator": "cpu"},
    "model": {"class_path": "tiny_task.Drawn"},
    "data": {
        "class_path": "tiny_task.Shades",
        "init_args": {
            "batch_size": 8,
            "augment": [{"class_path": "torchvision.transforms.v2.RandomHorizontalFlip"}],
        },
    },
    "check": "off",
    "dashboard": {"enabled": False},
}
ARGS = ("--config", "tiny.yaml")


class Measurements:
    """Stand-in for `time_steps`. It counts its calls and returns or raises `result`."""

    def __init__(self):
        self.result, self.count = FASTER, 0

    def __call__(self, trainer, pl_module):
        self.count += 1
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def short_runs(monkeypatch):
    """Let any run be long enough, on any device."""
    Path("tiny.yaml").write_text(yaml.safe_dump(RUN))
    monkeypatch.setattr(precision, "MIN_STEPS", 1)
    monkeypatch.setattr(precision, "MIN_PIXELS", 1)
    monkeypatch.setattr(precision, "computes_bfloat16", lambda device: True)


@pytest.fixture
def measurements(short_runs, monkeypatch):
    stub = Measurements()
    monkeypatch.setattr(precision, "time_steps", stub)
    return stub


@pytest.fixture
def autocasts(monkeypatch):
    """Return a list that gets, for each training step, whether it runs in bfloat16."""
    found, training_step = [], tiny_task.Drawn.training_step

    def step(self, batch, batch_idx):
        found.append(torch.is_autocast_enabled("cpu"))
        return training_step(self, batch, batch_idx)

    monkeypatch.setattr(tiny_task.Drawn, "training_step", step)
    return found


def saved_precision(run):
    return yaml.safe_load((run / "config.yaml").read_text())["trainer"]["precision"]


@pytest.mark.parametrize(
    ("full", "mixed", "speedup", "expected"),
    [
        ([0.75, 0.9], [0.5, 3.0], 1.5, MIXED),
        ([1.2], [1.0], 1.2, MIXED),  # the limit itself counts
        ([1.1875, 5.0], [1.0, 1.0], 1.1875, FULL),
        ([1.0], [4.0], 0.25, FULL),
    ],
)
def test_shortest_times_choose_the_precision(full, mixed, speedup, expected):
    assert speedup_of({FULL: full, MIXED: mixed}) == speedup
    assert choose(speedup) == expected


@pytest.mark.parametrize(
    ("steps", "batch_size", "size", "expected"),
    [
        (808, 64, (8, 8), False),  # `make fit`
        (800, 32, (64, 64), True),  # classification_folder.yaml
        (1000, 10, (100, 100), True),  # the limit itself counts
        (999, 10, (100, 100), False),
        (499, 32, (640, 480), False),
        (float("inf"), 1, (6, 8), True),  # limited by max_time
        (5000, 32, None, False),  # images of different sizes
    ],
)
def test_only_long_runs_are_measured(steps, batch_size, size, expected):
    assert is_long(steps, batch_size, size) is expected


def test_faster_precision_is_saved_and_resumed_without_a_measurement(fit, measurements, autocasts, capsys):
    run = fit(*ARGS)
    assert "precision: bf16-mixed, 1.5 times as fast as 32-true" in capsys.readouterr().out
    assert autocasts == [True] * 4 and measurements.count == 1 and saved_precision(run) == MIXED
    measurements.result = SLOWER
    assert fit("--resume", str(run), "--trainer.max_epochs", "2") == run
    assert autocasts == [True] * 8 and measurements.count == 1 and saved_precision(run) == MIXED
    again = fit("--config", str(run / "config.yaml"))
    assert again != run and autocasts == [True] * 16 and measurements.count == 1


@pytest.mark.parametrize(
    ("config", "option", "expected"),
    [
        (None, [], True),
        (None, ["--trainer.precision", FULL], False),
        ("", [], False),
        ("trainer: {precision: no-such}", [], False),
        ("trainer: [", [], False),
    ],
)
def test_test_takes_the_precision_of_the_run(config, option, expected, fit, measurements, monkeypatch):
    def evaluate(self, batch):
        found.append(torch.is_autocast_enabled("cpu"))
        return self.net(batch.images.flatten(1))

    run, found = fit(*ARGS), []
    if config is not None:
        (run / "config.yaml").write_text(config)
    monkeypatch.setattr(tiny_task.Drawn, "evaluate", evaluate)
    verbs.test([str(run), *option])
    assert set(found) == {expected}


@pytest.mark.parametrize("other", [FULL, "64-true", "bf16-true"])
def test_resumed_run_may_change_the_precision(other, fit, measurements, autocasts, capsys):
    run = fit(*ARGS)
    assert fit("--resume", str(run), "--trainer.max_epochs", "2", "--trainer.precision", other) == run
    assert f"the precision was bf16-mixed and is now {other}" in capsys.readouterr().out
    assert autocasts == [True] * 4 + [False] * 4 and saved_precision(run) == other
    fit("--resume", str(run), "--trainer.max_epochs", "3")
    assert "the precision was" not in capsys.readouterr().out and autocasts[8:] == [False] * 4


@pytest.mark.parametrize(("option", "limit"), [([], 1.0), (["--trainer.gradient_clip_val", "0.001"], 0.001)])
@pytest.mark.parametrize("explicit", [[], ["--trainer.precision", MIXED]], ids=["chosen", "explicit"])
def test_gradients_of_a_fused_optimizer_are_clipped(explicit, option, limit, fit, measurements, autocasts, monkeypatch):
    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), 0.01, fused=True)
        optimizer.register_step_post_hook(
            lambda *_: norms.append(get_total_norm([p.grad for p in self.parameters()]).item())
        )
        return optimizer

    norms = []
    monkeypatch.setattr(tiny_task.Drawn, "configure_optimizers", configure_optimizers)
    assert saved_precision(fit(*ARGS, *explicit, *option)) == MIXED and autocasts == [True] * 4
    assert len(norms) == 4 and max(norms) <= limit * 1.001


def test_slower_precision_is_not_used(fit, measurements, autocasts, capsys):
    measurements.result = SLOWER
    run = fit(*ARGS)
    assert "precision: 32-true, since bf16-mixed is 0.80 times as fast" in capsys.readouterr().out
    assert autocasts == [False] * 4 and measurements.count == 1 and saved_precision(run) == FULL


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--auto_precision", "false"], None),
        (["--trainer.precision", "32-true"], FULL),
        (["--trainer.precision", "64-true"], "64-true"),
        (["--model", "tiny_task.Judge"], None),  # a plain LightningModule
    ],
)
def test_run_is_not_measured(arguments, expected, fit, measurements):
    assert saved_precision(fit(*ARGS, *arguments)) == expected
    assert measurements.count == 0


def test_deterministic_run_is_not_measured(fit, measurements, monkeypatch):
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert saved_precision(fit(*ARGS)) is None and measurements.count == 0


def test_failed_measurement_changes_nothing(fit, measurements, autocasts, capsys):
    measurements.result = torch.OutOfMemoryError("out of\nmemory")
    assert saved_precision(fit(*ARGS)) == FULL
    message = "precision: 32-true, since bf16-mixed failed in a trial (OutOfMemoryError: out of memory)\n"
    assert autocasts == [False] * 4 and message in capsys.readouterr().out


def test_slowest_process_decides(fit, measurements, monkeypatch):
    monkeypatch.setattr(SingleDeviceStrategy, "reduce", lambda self, tensor, reduce_op: tensor - 0.5)
    assert saved_precision(fit(*ARGS)) == FULL and measurements.count == 1


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_all_processes_compare_their_speedups(has_bfloat16, fit, measurements, monkeypatch, capsys):
    def reduce(self, tensor, reduce_op):
        if reduce_op != "min" or own:  # of another callback
            return tensor
        own.append(float(tensor))
        return tensor * 0  # another process has no bfloat16

    own = []
    monkeypatch.setattr(SingleDeviceStrategy, "reduce", reduce)
    monkeypatch.setattr(precision, "computes_bfloat16", lambda device: has_bfloat16)
    assert saved_precision(fit(*ARGS)) == (FULL if has_bfloat16 else None)
    assert own == [1.5 if has_bfloat16 else 0.0] and measurements.count == int(has_bfloat16)
    assert ("another process" in capsys.readouterr().out) == has_bfloat16


def test_measurement_does_not_change_the_weights(fit, short_runs, monkeypatch):
    monkeypatch.setattr(precision, "MIN_SPEEDUP", float("inf"))
    threads, seconds = torch.get_num_threads(), []
    time_steps = precision.time_steps
    monkeypatch.setattr(precision, "time_steps", lambda *args: seconds.append(time_steps(*args)) or seconds[0])
    options = ("--trainer.max_epochs", "2", "--exact_resume.enabled", "false")  # which would seed each epoch
    runs = [fit(*ARGS, *options), fit(*ARGS, *options, "--auto_precision", "false")]
    assert [saved_precision(run) for run in runs] == [FULL, None] and torch.get_num_threads() == threads
    assert {name: len(times) for name, times in seconds[0].items()} == {FULL: 4, MIXED: 4}
    measured, other = (torch.load(run / "checkpoints" / "best.ckpt", weights_only=True) for run in runs)
    assert measured["global_step"] == other["global_step"] > 0
    for key, weights in other["state_dict"].items():
        assert torch.equal(measured["state_dict"][key], weights), key


def test_memory_of_a_measurement_is_freed_before_the_peak_is_reset(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("free"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: calls.append(device))
    precision.free_memory(torch.device("cpu"))
    assert calls == []
    precision.free_memory(torch.device("cuda", 1))
    assert calls == ["free", torch.device("cuda", 1)]


def test_evaluation_that_fails_in_bfloat16_keeps_float32(fit, short_runs, monkeypatch, capsys):
    def evaluate(self, batch):
        outputs = self.net(batch.images.flatten(1))
        return torch.from_numpy(outputs.numpy())  # numpy has no bfloat16

    monkeypatch.setattr(precision, "MIN_SPEEDUP", 1e-9)
    monkeypatch.setattr(tiny_task.Drawn, "evaluate", evaluate)
    assert saved_precision(fit(*ARGS)) == FULL
    assert "failed in a trial (TypeError: " in capsys.readouterr().out


def test_evaluation_in_bfloat16_is_tried_once(fit, short_runs, monkeypatch):
    def evaluate(self, batch):
        if torch.is_autocast_enabled("cpu"):
            tried.append((self.training, torch.is_grad_enabled(), len(batch.keys)))
        return outputs(self, batch)

    tried, outputs = [], tiny_task.Drawn.evaluate
    monkeypatch.setattr(precision, "MIN_SPEEDUP", float("inf"))
    monkeypatch.setattr(tiny_task.Drawn, "evaluate", evaluate)
    fit(*ARGS)
    assert tried == [(False, False, 2)]
