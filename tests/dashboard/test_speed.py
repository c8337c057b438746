from types import SimpleNamespace

import pytest
import torch

from project.dashboard import Speed, speed
from project.dashboard.speed import WARM_UP_STEPS, peak_memory_bytes


@pytest.mark.parametrize("world", [1, 3])
def test_images_a_second_without_the_first_steps_and_without_validation(world, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    trainer = SimpleNamespace(world_size=world, logger=None, sanity_checking=False)
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


def test_before_the_first_measured_step_it_is_0():
    assert Speed().images_per_second == 0


def test_batches_of_any_make():
    for batch in ((torch.zeros(4, 1), torch.zeros(9)), {"x": [torch.zeros(4)]}, torch.zeros(4)):
        assert len(speed._first_tensor(batch)) == 4


def test_memory_of_this_process_is_at_least_what_torch_needs():
    assert 50e6 < peak_memory_bytes(torch.device("cpu")) < 100e9
