"""A run that is killed and goes on ends as one that never was."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from restless_task import Restless
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from project import cli, process

EMA = {"class_path": "project.safeguards.EMA", "init_args": {"decay": 0.9}}
RUN = {
    "trainer": {"max_epochs": 3, "accelerator": "cpu", "log_every_n_steps": 2, "callbacks": [EMA]},
    "model": {"class_path": "restless_task.Restless"},
    "data": {
        "class_path": "tiny_task.Shades",
        "init_args": {
            "batch_size": 5,
            "augment": [{"class_path": "torchvision.transforms.v2.RandomHorizontalFlip"}],
            "val": 12,
        },
    },
    "early_stopping": {"patience": 2},
    "check": "off",
}


class Killed(BaseException):
    """As SIGKILL, the process has no say; what was handed to the writer may be on the disk already."""


@pytest.fixture(autouse=True)
def config() -> None:
    process.quiet()
    Path("tiny.yaml").write_text(yaml.safe_dump(RUN))


def fit(name: str, *args: str) -> Path:
    cli.fit(["--config", "tiny.yaml", "--name", name, *args])
    return Path("runs") / name / "version_0"


@pytest.fixture
def killed(monkeypatch):
    """Starts a run that ends in the `at`th call of a method of the task's, before the call or after it."""

    def run(name: str, at: int, where: str, *args: str) -> Path:
        calls = 0
        method = getattr(Restless, where)

        def counted(self, batch, batch_idx):
            nonlocal calls
            calls += 1
            if calls == at:
                raise Killed
            return method(self, batch, batch_idx)

        with monkeypatch.context() as patch:
            patch.setattr(Restless, where, counted)
            with pytest.raises(Killed):
                fit(name, *args)
        return Path("runs") / name / "version_0"

    return run


def contents(run: Path, name: str) -> dict[str, Any]:
    """A checkpoint without what may differ: where the run lies, and how many bytes its log has."""
    content = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    content["exact_resume"].pop("log")
    for state in content["callbacks"].values():
        for key in [key for key in state if "path" in key or key in ("dirpath", "best_k_models")]:
            del state[key]
    return content


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, dict):
        assert set(a) == set(b), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for place, pair in enumerate(zip(a, b, strict=True)):
            assert_equal(*pair, f"{where}/{place}")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), where
    else:
        assert a == b, (where, a, b)


def log(run: Path) -> list[tuple[str, int, float]]:
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("speed/")]  # by the clock
    return sorted((tag, event.step, event.value) for tag in tags for event in events.Scalars(tag))


def assert_same(run: Path, other: Path) -> None:
    for name in ("last", "best"):
        assert_equal(contents(run, name), contents(other, name), name)
    assert log(run) == log(other)
    results = [json.loads((folder / "results.json").read_text()) for folder in (run, other)]
    assert results[0]["test/accuracy"] == results[1]["test/accuracy"]


STEPS = {"every step": ["--exact_resume.every_minutes", "0"], "each epoch": []}
MOMENTS = [
    (1, "training_step"),
    (4, "training_step"),
    (8, "training_step"),
    (15, "training_step"),
    (2, "validation_step"),
    (4, "validation_step"),
]


@pytest.mark.parametrize("how", STEPS)
def test_killed_at_any_moment(killed, how):
    whole = fit("whole", *STEPS[how])
    for at, where in MOMENTS:
        name = f"{where}_{at}"
        run = killed(name, at, where, *STEPS[how])
        cli.fit(["--resume", str(run)])
        assert_same(whole, run)
