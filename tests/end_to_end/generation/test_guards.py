"""What guards a run of any task holds for these: little memory, numbers that are none, a run that was killed."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from in_parts import same_gradient

from kit.cli import verbs
from kit.ground.memory import DoesNotFit
from project.generation import Euler, Generator, UNet

CONFIGS = Path(__file__).parents[3] / "configs"
SHORT = ["--config", str(CONFIGS / "generation.yaml"), "--trainer.limit_train_batches", "4", "--model.net.widths",
         "[8]", "--data.batch_size", "20", "--model.solver.steps", "2", "--model.samples", "30",
         "--trainer.max_epochs", "2", "--trainer.check_val_every_n_epoch", "1"]  # fmt: skip


@pytest.fixture(autouse=True)
def quick_judges(monkeypatch):
    monkeypatch.setattr("kit.samples.judge.MIN_STEPS", 5)


def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(partial(UNet, widths=[8, 16]), 3, 3)


def test_gradient_of_parts_equals_that_of_the_batch():
    same_gradient(generator())


def with_room_for(count: int, monkeypatch) -> None:
    """For so many images at a time, where nothing is learned."""
    whole = UNet.forward

    def forward(self, images, times, classes):
        if len(images) > count and not self.training:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(self, images, times, classes)

    monkeypatch.setattr(UNet, "forward", forward)


def test_samples_are_the_same_in_halved_batches(monkeypatch):
    task, classes = Generator(partial(UNet, widths=[8]), 3, 2, solver=Euler(2)).eval(), torch.arange(20) % 3
    torch.nn.init.normal_(task.net.head[2].weight, 0, 0.3)
    wanted = task.sample(classes, range(20), (6, 7))
    with_room_for(7, monkeypatch)
    assert torch.equal(task.sample(classes, range(20), (6, 7)), wanted)
    with_room_for(0, monkeypatch)
    with pytest.raises(DoesNotFit, match=r"one sample does not fit"):
        task.sample(classes, range(20), (6, 7))


@pytest.fixture
def tested(monkeypatch):
    """The figures of `project.test`."""

    def run(*words: str) -> dict[str, float]:
        found = {}
        with monkeypatch.context() as patch:
            patch.setattr(verbs, "report", lambda metrics, *_, **__: found.update(metrics))
            verbs.test([*words, "--trainer.limit_test_batches", "3"])
        return found

    return run


@pytest.mark.slow
def test_report_is_the_same_with_little_memory_and_two_processes(fit, tested, ranks, monkeypatch):
    run = fit(*SHORT, "--trainer.limit_test_batches", "3", "--data.batch_size", "18")
    wanted = tested(str(run))
    assert {"test/agreement", "test/loss", "test/explained", "test/frechet_distance"} <= set(wanted)
    with monkeypatch.context() as patch:
        with_room_for(7, patch)
        assert tested(str(run)) == pytest.approx(wanted, rel=1e-5)
    Path("measure.py").write_text(MEASURE)
    two = ["--trainer.devices", "2", "--trainer.accelerator", "cpu", "--trainer.strategy", "ddp",
           "--data.batch_size", "9", "--trainer.limit_test_batches", "3"]  # fmt: skip
    ended = ranks("measure.py", str(run), *two)
    assert ended.returncode == 0, ended.stderr
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("figures ")]
    assert json.loads(line.removeprefix("figures ")) == pytest.approx(wanted, rel=1e-4)


MEASURE = """
import json, sys
import project
from kit.cli import process, verbs
from kit.samples import judge

if __name__ == "__main__":
    judge.MIN_STEPS = 5
    process.quiet()
    verbs.report = lambda metrics, *_, **__: print("figures", json.dumps(metrics))
    verbs.test(sys.argv[1:])
"""


@pytest.mark.slow
def test_batch_with_nan_is_skipped_with_a_message(fit, capsys):
    run = fit(*SHORT, "--trainer.limit_test_batches", "1", "--trainer.callbacks+=poison.Poison",
              "--trainer.callbacks.where", "input", "--trainer.callbacks.steps", "[2]")  # fmt: skip
    said = capsys.readouterr().out
    assert "nan_guard: epoch 1 step 2: the loss is not finite, in sample " in said and "input not finite" in said
    weights = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in weights.values())


@pytest.mark.slow
def test_early_stopping_applies(fit, capsys):
    fit(*SHORT, "--trainer.limit_test_batches", "1", "--trainer.max_epochs", "9", "--model.optimizer.lr", "0",
        "--early_stopping.patience", "2", "--trainer.callbacks", "[]")  # fmt: skip
    said = capsys.readouterr().out
    assert "stopped after epoch 3: val/explained has not improved on 0.0000 for 2 validations" in said


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_weights(fit, image_folder):
    root = image_folder({"train": {"a": 14, "b": 12}, "test": {"a": 3, "b": 3}}, size=(8, 9))
    folder = ["--data", "project.generation.ImageFolder", "--data.root", str(root), "--data.image_size", "[8, 9]",
              "--data.augment+=torchvision.transforms.v2.RandomHorizontalFlip", "--data.batch_size", "5"]  # fmt: skip
    runs = [fit(*SHORT, *folder, "--data.num_workers", workers, "--name", f"w{workers}") for workers in "02"]
    one, other = (torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in runs)
    assert all(torch.equal(value, other[key]) for key, value in one.items())
