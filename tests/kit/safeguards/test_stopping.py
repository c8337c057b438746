"""The metric that is monitored, and when a run stops."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from kit.ground.errors import NotMeasured
from kit.safeguards import Checkpoint, EarlyStopping, NanGuard
from kit.training.monitor import resolve_monitor

NAN = float("nan")
TASK = SimpleNamespace(monitor="val/map", mode="max")
PLAIN = SimpleNamespace()  # a module that names no metric

MONITORED = [  # the task, --monitor and --mode; the log key that is monitored, and its mode
    (TASK, None, None, ("val/map", "max")),
    (TASK, None, "min", ("val/map", "min")),
    (TASK, "val/loss", None, ("val/loss", "min")),
    (TASK, "val/accuracy", None, ("val/accuracy", "max")),
    (TASK, "val/error", "min", ("val/error", "min")),
    (PLAIN, None, None, ("val/loss", "min")),
    (PLAIN, "val/miou", None, ("val/miou", "max")),
    (SimpleNamespace(monitor="val/error", mode="min"), "val/error", None, ("val/error", "min")),
]


@pytest.mark.parametrize(("task", "monitor", "mode", "expected"), MONITORED)
def test_monitored_metric(task, monitor, mode, expected):
    assert resolve_monitor(task, monitor, mode) == expected


STOPS = [  # mode, patience, min_delta and the metric of each validation; the number of validations before it stops
    ("max", 2, 0.0, [0.1, 0.2, 0.2, 0.1], 4),
    ("max", 2, 0.0, [0.1, 0.0, 0.2, 0.2, 0.3], None),
    ("max", 1, 0.15, [0.5, 0.6], 2),
    ("min", 1, 0.0, [0.5, 0.4, 0.3, 0.3], 4),
    ("min", 1, 0.15, [0.5, 0.4], 2),
    ("min", None, 0.0, [0.5] * 50, None),
]


@pytest.mark.parametrize(("mode", "patience", "min_delta", "values", "count"), STOPS)
def test_run_stops_without_improvement(mode, patience, min_delta, values, count):
    stopping = EarlyStopping("val/x", mode, patience, min_delta)
    trainer = SimpleNamespace(val_check_interval=1.0, check_val_every_n_epoch=1, world_size=1)
    stopping.setup(trainer, PLAIN, "validate")
    stops = [stopping._evaluate_stopping_criteria(torch.tensor(value))[0] for value in values]
    assert (stops.index(True) + 1 if True in stops else None) == count


ENDS = [  # the metric of each validation, and the message at the end
    ([0.5, float("nan")], "stopped after epoch 2: val/x is not finite\n"),
    ([float("nan")], "stopped after epoch 1: val/x is not finite\n"),
    (
        [0.5, 0.25],
        "stopped after epoch 2: val/x has not improved on 0.5000 for 1 validations (early_stopping.patience)\n",
    ),
    ([0.5, 0.75], ""),
]


def validated(stopping: EarlyStopping, values: list[float]) -> SimpleNamespace:
    """Give a callback the metric of each validation of a run. Return what it needs of a trainer."""
    trainer = SimpleNamespace(
        fast_dev_run=False, should_stop=False, enable_validation=True, world_size=1, strategy=SimpleNamespace()
    )
    trainer.is_global_zero, trainer.loggers = True, []
    trainer.strategy.reduce_boolean_decision = lambda decision, all: decision
    stopping.setup(SimpleNamespace(val_check_interval=1.0, check_val_every_n_epoch=1), PLAIN, "fit")
    for trainer.current_epoch, value in enumerate(values):
        trainer.callback_metrics = {"val/x": torch.tensor(value)}
        stopping._run_early_stopping_check(trainer)
    return trainer


@pytest.mark.parametrize(("values", "message"), ENDS)
def test_reason_for_stopping_is_printed(values, message, capsys):
    stopping = EarlyStopping("val/x", "max", 1)
    trainer = validated(stopping, values)
    stopping.on_fit_end(trainer, PLAIN)
    assert capsys.readouterr().out == message
    assert trainer.should_stop == bool(message)


def test_resumed_run_has_the_new_patience_and_forgets_why_it_was_stopped(capsys):
    stopped = EarlyStopping("val/x", "max", 1)
    validated(stopped, [0.5, 0.25])
    resumed = EarlyStopping("val/x", "max", 3)
    resumed.load_state_dict(stopped.state_dict())
    trainer = validated(resumed, [0.25])
    resumed.on_fit_end(trainer, PLAIN)
    assert not trainer.should_stop and not capsys.readouterr().out
    assert validated(resumed, [0.25]).should_stop


def test_stopped_run_keeps_the_reason_if_an_earlier_checkpoint_is_loaded():
    early, stopped = EarlyStopping("val/x", "max", 3), EarlyStopping("val/x", "max", 3)
    validated(early, [0.5])
    validated(stopped, [0.5, NAN])
    stopped.load_state_dict(early.state_dict())
    with pytest.raises(NotMeasured, match="after epoch 2: val/x is not finite"):
        stopped.require_finite()


def test_state_is_restored_before_and_after_setup():
    before = EarlyStopping()
    before.setup(SimpleNamespace(val_check_interval=1.0, check_val_every_n_epoch=1), TASK, "validate")
    for value in (0.5, 0.4):
        before._evaluate_stopping_criteria(torch.tensor(value))
    after = EarlyStopping()
    after.load_state_dict(before.state_dict())
    after.setup(SimpleNamespace(val_check_interval=1.0, check_val_every_n_epoch=1), TASK, "validate")
    assert (after.wait_count, float(after.best_score), after.mode) == (1, 0.5, "max")
    # Lightning calls setup first.
    late = EarlyStopping()
    late.setup(SimpleNamespace(val_check_interval=1.0, check_val_every_n_epoch=1), TASK, "validate")
    late.load_state_dict(before.state_dict())
    assert (late.wait_count, float(late.best_score)) == (1, 0.5)


@pytest.mark.parametrize(("values", "best"), [([NAN, 0.5, NAN], 2), ([0.5, NAN, 0.25], 1), ([NAN, NAN, 0.5], 3)])
def test_nan_metric_does_not_choose_the_best_checkpoint(values, best, tmp_path):
    import lightning as L

    class Logged(L.LightningModule):
        """Log one of the values at each validation, after one step."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def training_step(self, batch, batch_idx):
            return (self.weight * batch).sum()

        def validation_step(self, batch, batch_idx):
            self.log("val/x", torch.tensor(values[self.current_epoch]))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    checkpoint, guard = Checkpoint("val/x", "max"), NanGuard()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = L.Trainer(
        default_root_dir=tmp_path, accelerator="cpu", max_epochs=3, callbacks=[checkpoint, guard], **quiet
    )
    loader = DataLoader(torch.ones(1))
    trainer.fit(Logged(), loader, loader)
    assert torch.load(checkpoint.best_model_path, weights_only=False)["global_step"] == checkpoint.best_step == best
    assert checkpoint.best_model_score == max(value for value in values if value == value)
    assert (guard.skipped, guard.rollbacks) == (0, 0)


def test_checkpoint_takes_the_metric_from_the_task(tmp_path):
    import lightning as L

    trainer = L.Trainer(default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False)
    for task, expected in ((TASK, ("val/map", "max", -float("inf"))), (PLAIN, ("val/loss", "min", float("inf")))):
        checkpoint = Checkpoint()
        checkpoint.setup(trainer, task, "validate")
        assert (checkpoint.monitor, checkpoint.mode, float(checkpoint.kth_value)) == expected
