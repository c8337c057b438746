"""Runs of the tiny task: their config, and a run that a test file makes once, since nothing in it changes it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiny_task
import yaml

from kit.checkpoints import trust
from kit.cli import process, verbs


def write_config(max_epochs: int) -> None:
    """Write `tiny.yaml`, a config of the task that draws, without messages of Lightning."""
    process.quiet()
    config = {
        "trainer": {"max_epochs": max_epochs, "accelerator": "cpu"},
        "model": {"class_path": "tiny_task.Drawn", "init_args": {"lr": 0.05}},
        "data": {"class_path": "tiny_task.Shades", "init_args": {"batch_size": 8, "train": 40, "val": 21}},
    }
    Path("tiny.yaml").write_text(yaml.safe_dump(config))


def made_once(once: Callable[..., Path], name: str, config: str) -> Path:
    """The run's folder, of a config's text that is named `tiny`.

    Args:
        once: the fixture.
        name: of what `once` makes.
    """

    def make() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trust, "PACKAGES", (*trust.PACKAGES, "tiny_task"))
            Path("config.yaml").write_text(config)
            process.quiet()
            verbs.fit(["--config", "config.yaml"])

    return once(name, make) / "runs" / "tiny" / "version_0"


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    """Let a run of `tiny_task.Drawn` end in its training step with this number, as if it were killed."""

    class Killed(BaseException):
        pass

    training_step = tiny_task.Drawn.training_step

    def dies(self, batch, batch_idx):
        if self.global_step == step:
            raise Killed
        return training_step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(tiny_task.Drawn, "training_step", dies)
        yield
