from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Timer

from kit.dashboard import Speed, speed
from kit.dashboard.speed import WARM_UP_STEPS, peak_memory_bytes, speed_text


@pytest.mark.parametrize("world", [1, 3])
def test_images_per_second_exclude_first_steps_and_validation(world, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    trainer = SimpleNamespace(world_size=world, loggers=[], sanity_checking=False, global_step=0)
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


def test_train_seconds_of_a_resumed_run(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    trainer, stopped, resumed = SimpleNamespace(global_step=0), Speed(), Speed()
    assert stopped.state_dict() == {"train_seconds": 0}
    stopped.on_train_start(trainer, None)
    now[0] += 30
    resumed.load_state_dict(stopped.state_dict())
    now[0] += 1000
    resumed.on_train_start(trainer, None)
    now[0] += 5
    best = resumed.state_dict()
    now[0] += 7
    resumed.on_train_end(trainer, None)
    resumed.load_state_dict(best)
    assert resumed.state_dict() == {"train_seconds": 42}


def test_images_per_second_of_a_run_with_two_steps(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    meter = Speed()
    assert meter.images_per_second == 0
    for _ in range(2):
        now[0] += 5
        meter.on_train_batch_end(SimpleNamespace(world_size=1), None, None, torch.zeros(4, 1), 0)
    assert meter.images_per_second == pytest.approx(0.8)


# The limits of the run (epochs of 40 batches), batches in a step, batches between validations, and where it is resumed.
RUNS = [
    ({"max_epochs": 20}, 1, 40, 0),
    ({"max_epochs": 20}, 1, 40, 400),
    ({"max_epochs": 20}, 4, 200, 0),
    ({"max_epochs": 20}, 1, 10, 210),
    ({"max_steps": 800}, 1, 160, 0),
    ({"max_steps": 200}, 4, 160, 120),
    ({"max_steps": 800, "max_epochs": 30}, 1, 160, 0),
    ({"max_seconds": 300.0}, 1, 160, 0),
    ({"max_seconds": 300.0, "max_epochs": 1000}, 1, 40, 0),
]


@pytest.mark.parametrize("validation_seconds", [0.5, 26.0])
@pytest.mark.parametrize(("limits", "accumulated", "interval", "start"), RUNS)
def test_time_left_is_right_after_a_tenth(limits, accumulated, interval, start, validation_seconds, monkeypatch):
    """A batch of 8 images takes 1 s, the first one 20 s, and a validation of 300 images 0.5 s or 26 s."""
    now, estimates, batch = [1000.0], [], torch.zeros(8, 1)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    trainer, end = FakeTrainer(limits, accumulated, interval, now), now[0] + limits.get("max_seconds", float("inf"))
    meter, done = Speed(), start
    trainer.move_to(done)
    meter.on_train_start(trainer, None)
    while not trainer.is_over() and now[0] < end:
        if done % 40 == 0 or done == start:
            meter.on_train_epoch_start(trainer, None)
        meter.on_train_batch_start()
        now[0] += 1 if done > start else 20
        meter.on_train_batch_end(trainer, None, None, batch, 0)
        estimates.append((now[0], meter.seconds_left(trainer)))  # Lightning counts the batch only after this hook
        done += 1
        if done % interval == 0:
            trainer.move_to(done, validated=0)
            estimates.append((now[0], meter.seconds_left(trainer)))
            now[0] += validation_seconds
            trainer.move_to(done, validated=30)
            meter.on_validation_end(trainer, None)
            estimates.append((now[0], meter.seconds_left(trainer)))
            now[0] += 1  # a checkpoint is saved
        trainer.move_to(done)
    late = [(time, left) for time, left in estimates if time > 1000 + (now[0] - 1000) / 10 + 20]
    assert len(late) > 80 and estimates[-1][1] <= 2
    for time, left in late:
        assert left == pytest.approx(now[0] - time, rel=0.2, abs=5)


def test_time_left_is_unknown():
    for limits, batches in (({}, 40), ({"max_epochs": 5}, float("inf"))):
        trainer = FakeTrainer(limits, 1, 40, [0.0])
        trainer.num_training_batches = batches
        assert Speed().seconds_left(trainer) == float("inf")
        meter = Speed()
        meter.on_train_start(trainer, None)
        meter.on_train_batch_end(trainer, None, None, torch.zeros(4, 1), 0)
        assert meter.seconds_left(trainer) == float("inf")


class FakeTrainer(SimpleNamespace):
    """The state of a trainer with epochs of 40 batches and 300 validation images in batches of 10."""

    def __init__(self, limits, accumulated, interval, now):
        self.limits, self.max_epochs, self.max_steps = limits, limits.get("max_epochs", -1), limits.get("max_steps", -1)
        self.callbacks = []
        if "max_seconds" in limits:
            self.callbacks = [FakeTimer(now, limits["max_seconds"])]
        self.accumulate_grad_batches, self.num_training_batches, self.world_size = accumulated, 40, 1
        by_epoch = interval % 40 == 0
        self.val_check_batch, self.check_val_every_n_epoch = (40, interval // 40) if by_epoch else (interval, 1)
        self.enable_validation, self.num_val_batches, self.loggers = True, [30], []
        self.val_dataloaders = SimpleNamespace(batch_sampler=SimpleNamespace(batch_size=10))
        self.strategy = SimpleNamespace(root_device=torch.device("cpu"))
        self.move_to(0)

    def move_to(self, batches, validated=None):
        self.current_epoch, completed = divmod(batches, 40)
        self.global_step, self.validating = batches // self.accumulate_grad_batches, validated is not None
        training, validation = (
            SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(completed=count)))
            for count in (completed, validated)
        )
        training.val_loop = validation
        self.fit_loop = SimpleNamespace(epoch_loop=training)

    def is_over(self):
        return self.current_epoch == self.max_epochs or self.global_step == self.max_steps


class FakeTimer(Timer):
    def __init__(self, now, seconds):
        self.now, self.end = now, now[0] + seconds

    def time_remaining(self, stage="train"):
        return self.end - self.now[0]


@pytest.mark.parametrize(
    ("images_per_second", "text"), [(4512.3, "4,512"), (10, "10"), (4.26, "4.3"), (0.4, "0.4"), (0.0361, "0.036")]
)
def test_slow_speeds_have_digits(images_per_second, text):
    assert speed_text(images_per_second) == text


@pytest.mark.parametrize(
    "batch", [(torch.zeros(4, 1), torch.zeros(9)), {"x": [torch.zeros(4)]}, (torch.tensor(1.0), torch.zeros(4))]
)
def test_batch_size_of_nested_batches(batch, monkeypatch):
    seconds = iter(range(100))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(seconds))
    meter = Speed()
    for _ in range(WARM_UP_STEPS + 2):
        meter.on_train_batch_end(SimpleNamespace(world_size=1), None, None, batch, 0)
    assert meter.images_per_second == 4


@pytest.mark.parametrize("batch", [torch.tensor(1.0), ["a", "b"], None])
def test_batch_without_images_counts_as_one(batch, monkeypatch):
    monkeypatch.setattr(speed.time, "perf_counter", iter(range(100)).__next__)
    meter = Speed()
    for _ in range(WARM_UP_STEPS + 2):
        meter.on_train_batch_end(SimpleNamespace(world_size=2), None, None, batch, 0)
    assert meter.images_per_second == 2


def test_peak_memory_is_plausible():
    assert 50e6 < peak_memory_bytes(torch.device("cpu")) < 100e9


def test_waiting_share_is_measured_and_logged(monkeypatch):
    now, points = [100.0], []
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    logger = SimpleNamespace(log_metrics=lambda values, step: points.append((step, values)))
    trainer = SimpleNamespace(world_size=1, loggers=[logger], sanity_checking=False, global_step=7)
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
