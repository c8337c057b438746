from types import SimpleNamespace

import pytest
import torch

from kit.dashboard import Speed, progress
from kit.dashboard.progress import WARM_UP_STEPS, peak_memory_bytes


@pytest.mark.parametrize("world", [1, 3])
def test_images_per_second_exclude_first_steps_and_validation(world, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    trainer = SimpleNamespace(world_size=world, loggers=[], sanity_checking=False, current_epoch=0)
    meter, batch = Speed(), {"images": torch.zeros(10, 1)}
    meter.on_train_start(trainer, None)
    meter.on_train_epoch_start(trainer, None)
    for seconds in [50.0] * WARM_UP_STEPS + [2.0] * 4:
        now[0] += seconds
        meter.on_train_batch_end(trainer, None, None, batch, 0)
    now[0] += 1000  # validation
    meter.on_validation_end(trainer, None)
    now[0] += 2
    meter.on_train_batch_end(trainer, None, None, batch, 0)
    assert meter.images_per_second == pytest.approx(5 * 10 * world / 10)
    meter.on_train_end(trainer, None)
    assert meter.train_seconds == pytest.approx(now[0] - 100)


def test_images_per_second_of_a_run_with_two_steps(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    meter = Speed()
    assert meter.images_per_second == 0
    for _ in range(2):
        now[0] += 5
        meter.on_train_batch_end(SimpleNamespace(world_size=1), None, None, torch.zeros(4, 1), 0)
    assert meter.images_per_second == pytest.approx(0.8)


LIMITS = [  # the trainer's max_epochs, max_steps and number of batches, and the seconds left after 4 batches in 20 s
    (5, -1, 3, 5 * (3 * 3 - 4)),  # the run was resumed after two epochs
    (-1, -1, 3, float("inf")),
    (5, 100, 3, float("inf")),
    (5, -1, float("inf"), float("inf")),
    (3, -1, 3, 0),  # batches that were repeated
]


@pytest.mark.parametrize(("max_epochs", "max_steps", "batches", "left"), LIMITS)
def test_time_left(max_epochs, max_steps, batches, left, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    numbers = {"max_epochs": max_epochs, "max_steps": max_steps, "num_training_batches": batches}
    trainer, meter = SimpleNamespace(world_size=1, current_epoch=2, **numbers), Speed()
    meter.on_train_start(trainer, None)
    assert meter.seconds_left(trainer) == float("inf")
    for _ in range(4):
        now[0] += 5
        meter.on_train_batch_end(trainer, None, None, torch.zeros(4, 1), 0)
    assert meter.seconds_left(trainer) == pytest.approx(left)


@pytest.mark.parametrize("batch", [(torch.zeros(4, 1), torch.zeros(9)), {"x": [torch.zeros(4)]}, torch.zeros(4)])
def test_batch_size_of_nested_batches(batch, monkeypatch):
    seconds = iter(range(100))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(seconds))
    meter = Speed()
    for _ in range(WARM_UP_STEPS + 2):
        meter.on_train_batch_end(SimpleNamespace(world_size=1), None, None, batch, 0)
    assert meter.images_per_second == 4


def test_peak_memory_is_plausible():
    assert 50e6 < peak_memory_bytes(torch.device("cpu")) < 100e9


def test_waiting_share_is_measured_and_logged(monkeypatch):
    now, points = [100.0], []
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    logger = SimpleNamespace(log_metrics=lambda values, step: points.append((step, values)))
    trainer = SimpleNamespace(world_size=1, loggers=[logger], sanity_checking=False, global_step=7, current_epoch=0)
    trainer.strategy = SimpleNamespace(root_device=torch.device("cpu"))
    meter, batch = Speed(), torch.zeros(10, 1)
    meter.on_train_start(trainer, None)
    meter.on_train_epoch_start(trainer, None)
    for _ in range(WARM_UP_STEPS + 4):
        now[0] += 0.5
        meter.on_train_batch_start(trainer, None, batch, 0)
        now[0] += 1.5
        meter.on_train_batch_end(trainer, None, None, batch, 0)
    meter.on_validation_end(trainer, None)
    ((step, values),) = points
    assert step == 7
    assert values["speed/waiting_share"] == pytest.approx(0.25)
    assert values["speed/images_per_second"] == pytest.approx(5)
    assert 0.05 < values["speed/peak_memory_gb"] < 100
    meter.on_validation_end(trainer, None)  # nothing since
    assert len(points) == 1
