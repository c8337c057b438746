"""What a test measures: metrics that are not finite end with exit code 1, and all loaders are measured."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
import yaml
from chosen_task import Endless

from kit.cli import verbs
from kit.dashboard.report import report
from kit.ground.errors import NotMeasured, UserError

RUN = {
    "trainer": {"max_epochs": 2, "accelerator": "cpu"},
    "model": {"class_path": "chosen_task.Unmeasured"},
    "data": {"class_path": "tiny_task.Shades", "init_args": {"batch_size": 16, "val": 12}},
    "check": "off",
    "dashboard": {"enabled": False},
}


@pytest.fixture(autouse=True)
def config() -> None:
    Path("tiny.yaml").write_text(yaml.safe_dump(RUN))


def test_nan_loss_ends_fit_and_test_with_exit_code_1(capsys):
    with pytest.raises(NotMeasured, match="not finite: test/loss;") as caught:
        verbs.fit(["--config", "tiny.yaml"])
    assert caught.value.exit_code == 1
    run = Path("runs/tiny/version_0")
    results = json.loads((run / "results.json").read_text(), parse_constant=pytest.fail)
    assert results["test/loss"] is None and 0 <= results["test/accuracy"] <= 1
    assert "overfitting/gap" not in results
    out = capsys.readouterr().out
    assert " nan" in out and "verdict: none, since no validation gave a score" in out
    with pytest.raises(NotMeasured, match="test/loss"):
        verbs.test([str(run), "--trust", "chosen_task"])
    assert "  nan\n" in capsys.readouterr().out


@pytest.mark.parametrize("epoch", [1, 2])
def test_run_whose_monitored_metric_is_not_finite_is_stopped(epoch, monkeypatch):
    """Before the test, the best checkpoint is loaded, which is from before the stop."""
    log = lambda task: task.log("val/loss", math.inf if task.current_epoch + 1 == epoch else 0.5)  # noqa: E731
    monkeypatch.setattr(Endless, "on_validation_epoch_end", log)
    with pytest.raises(NotMeasured, match=f"stopped after epoch {epoch}: val/loss is not finite"):
        verbs.fit(["--config", "tiny.yaml", "--model", "chosen_task.Endless"])
    assert json.loads(Path("runs/tiny/version_0/results.json").read_text())["test/accuracy"] is not None


@pytest.mark.parametrize("args", [["batch_size", "-3"], ["batch_size", "0"], ["num_workers", "-1"]])
def test_invalid_batch_size_and_num_workers_are_refused(args):
    with pytest.raises(UserError, match=rf"data\.{args[0]} is \W?{args[1]}"):
        verbs.fit(["--config", "tiny.yaml", f"--data.{args[0]}", args[1]])


class TwoLoaders(L.LightningDataModule):
    def test_dataloader(self):
        return [[torch.full((2, 1), value)] for value in (1.0, 3.0)]


class MeanOfBatch(L.LightningModule):
    def test_step(self, batch, batch_idx, dataloader_idx):
        self.log("test/mean", batch.mean(), batch_size=2)


def test_metrics_of_all_test_loaders_are_reported(capsys):
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    metrics = verbs.evaluate(SimpleNamespace(trainer=trainer, model=MeanOfBatch(), datamodule=TwoLoaders()))
    assert metrics == {"test/mean/dataloader_idx_0": 1, "test/mean/dataloader_idx_1": 3}
    report(metrics, {}, None)
    assert "test/mean/dataloader_idx_1  3.0000" in capsys.readouterr().out
