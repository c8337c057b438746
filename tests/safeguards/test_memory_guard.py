"""A run on a device with little memory is the run that it would have been with enough."""

import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import nn

from project.safeguards import MemoryGuard

PARTS = Path(__file__).resolve().parent.parent / "parts"
sys.path.append(str(PARTS))
from small_memory import Squeezed, Terms  # noqa: E402
from tiny_task import Shades  # noqa: E402


class Notes(L.Callback):
    """What is logged for each step, and the norm of its gradient before it is clipped."""

    def __init__(self):
        self.losses, self.norms = [], []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        grads = [p.grad for p in pl_module.parameters() if p.grad is not None]
        self.norms.append(float(nn.utils.get_total_norm(grads)))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(trainer.callback_metrics["train/loss"]))
        assert float(outputs["loss"]) * trainer.accumulate_grad_batches == pytest.approx(self.losses[-1])


class Doubles(Shades):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        return batch._replace(images=batch.images.double())


def trained(task, *callbacks, **options):
    """Weights after two epochs of five batches of eight (the last of five), in double precision."""
    torch.manual_seed(0)
    task = task.double()
    for parameter in task.parameters():
        nn.init.normal_(parameter, std=0.1)
    notes = Notes()
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[*callbacks, notes], gradient_clip_val=0.5, **options,
    )  # fmt: skip
    trainer.fit(task, datamodule=Doubles(batch_size=8, val=9))
    return torch.cat([parameter.detach().flatten() for parameter in task.parameters()]), notes, trainer


DATA = {"num_classes": 3, "in_channels": 3}


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("short", [{"forward": 3}, {"backward": 3}, {"forward": 5, "backward": 2}], ids=str)
@pytest.mark.parametrize("kind", [Terms, Squeezed])
def test_a_run_is_the_same_with_little_memory(kind, short, accumulate, capsys):
    wanted, plain, _ = trained(kind(**DATA), accumulate_grad_batches=accumulate)
    guard, task = MemoryGuard(), kind(**DATA, **short)
    weights, notes, _ = trained(task, guard, accumulate_grad_batches=accumulate)
    assert task.ceiling.failures == len(guard_sizes := [8, 4, 2][: 3 if min(short.values()) < 4 else 2]) - 1
    assert guard.sizes == {"training_step": guard_sizes[-1]}
    assert torch.allclose(weights, wanted, rtol=1e-10, atol=0)
    assert notes.losses == pytest.approx(plain.losses, rel=1e-10) and notes.norms == pytest.approx(
        plain.norms, rel=1e-10
    )
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("memory_guard")]
    exact = "with the gradient of the whole batch" + (
        "" if kind is Terms else " if the loss is a mean over its samples"
    )
    assert said[-1] == f"memory_guard: out of memory; training goes on in micro-batches of 2, {exact}"
    assert len(said) <= len(short)
    assert not {"training_step", "validation_step", "optimizer_step"} & set(vars(task))


def test_turned_off_it_does_nothing():
    with pytest.raises(torch.OutOfMemoryError):
        trained(Terms(**DATA, forward=3), MemoryGuard(enabled=False))


def test_other_errors_are_not_its_affair():
    class Broken(Terms):
        def training_step(self, batch, batch_idx):
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        trained(Broken(**DATA), MemoryGuard())
