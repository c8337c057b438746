"""Training and evaluation with little memory give the results that they would give with enough."""

import json
import sys
from itertools import product
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import nn

from kit.cli import verbs
from kit.ground.memory import DoesNotFit
from kit.safeguards import MemoryGuard

PARTS = Path(__file__).resolve().parent.parent / "parts"
sys.path.append(str(PARTS))
from small_memory import SAID, Ceiling, Squeezed, Terms  # noqa: E402
from tiny_task import Judged, Shades  # noqa: E402


class Record(L.Callback):
    """Record the loss of each step and the norm of its gradient before clipping."""

    def __init__(self):
        self.losses, self.norms = [], []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        grads = [p.grad for p in pl_module.parameters() if p.grad is not None]
        self.norms.append(float(nn.utils.get_total_norm(grads)))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)
        if isinstance(pl_module, Terms):  # any other module logs each part
            assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(self.losses[-1])


class Doubles(Shades):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        return batch._replace(images=batch.images.double())


def trained(task, *callbacks, accelerator="cpu", **options):
    """Weights after two epochs of five batches of eight (the last of five), in double precision."""
    torch.manual_seed(0)
    task = task.double()
    for parameter in task.parameters():
        nn.init.normal_(parameter, std=0.1)
    record = Record()
    trainer = L.Trainer(
        max_epochs=2, accelerator=accelerator, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[*callbacks, record], gradient_clip_val=0.5,
        use_distributed_sampler=False, **options,
    )  # fmt: skip
    trainer.fit(task, datamodule=Doubles(batch_size=8, val=9))
    return torch.cat([parameter.detach().flatten() for parameter in task.parameters()]), record, trainer


def limits(guard):
    return {name: limit.size for name, limit in guard.limits.items()}


DATA = {"num_classes": 3, "in_channels": 3}


SHORT = [{"forward": 3}, {"backward": 3}, {"forward": 5, "backward": 2}]
ALL = list(product((Terms, Squeezed), SHORT, (1, 2)))
QUICK = [(Terms, SHORT[0], 2), (Terms, SHORT[1], 1), (Squeezed, SHORT[2], 1)]


@pytest.mark.parametrize(
    ("kind", "short", "accumulate"),
    [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in ALL],
)
def test_training_with_little_memory_gives_the_same_weights(kind, short, accumulate, capsys):
    wanted, plain, _ = trained(kind(**DATA), accumulate_grad_batches=accumulate)
    guard, task = MemoryGuard(), kind(**DATA, **short)
    weights, notes, _ = trained(task, guard, accumulate_grad_batches=accumulate)
    assert task.ceiling.failures == len(sizes := [8, 4, 2][: 3 if min(short.values()) < 4 else 2]) - 1
    assert task.ceiling.kept == 1
    assert limits(guard) == {"training": sizes[-1], "evaluation": None}
    assert torch.allclose(weights, wanted, rtol=1e-10, atol=0)
    assert notes.losses == pytest.approx(plain.losses, rel=1e-10) and notes.norms == pytest.approx(
        plain.norms, rel=1e-10
    )
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("memory_guard")]
    exact = "with the gradient of the whole batch" + (
        "" if kind is Terms else " if the loss is a mean over its samples"
    )
    assert said[-1] == f"memory_guard: out of memory; training continues in micro-batches of 2, {exact}"
    assert len(said) <= len(short)
    assert not {"training_step", "validation_step", "optimizer_step"} & set(vars(task))


def test_disabled_guard_does_nothing():
    with pytest.raises(torch.OutOfMemoryError):
        trained(Terms(**DATA, forward=3), MemoryGuard(enabled=False))


def test_other_exceptions_are_raised():
    class Broken(Terms):
        def training_step(self, batch, batch_idx):
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        trained(Broken(**DATA), MemoryGuard())


PROCESSES = """
import json, sys
sys.path.insert(0, {folder!r})
from test_memory_guard import DATA, MemoryGuard, Terms, trained

if __name__ == "__main__":
    for strategy, accumulate, short in {runs!r}:
        guard = MemoryGuard()
        task = Terms(**DATA, rank=1, **short)
        weights, _, trainer = trained(task, guard, strategy=strategy, devices=2, accumulate_grad_batches=accumulate)
        with open(f"{{trainer.global_rank}}.txt", "a") as file:
            print(json.dumps([weights.tolist(), guard.limits['training'].size, task.ceiling.failures]), file=file)
"""


STRATEGIES = [
    ("ddp", 1),
    pytest.param("ddp", 2, marks=pytest.mark.slow),
    pytest.param("ddp_find_unused_parameters_true", 1, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("strategy", "accumulate"), STRATEGIES)
def test_one_of_two_processes_runs_out_of_memory(strategy, accumulate, ranks):
    """In its forward pass, in its backward pass with a part of the gradients exchanged already, or where gradients
    are added up first. Only this process divides its batches."""
    runs = [(strategy, accumulate, short) for short in ({}, {"forward": 3}, {"backward": 3})]
    Path("processes.py").write_text(PROCESSES.format(folder=str(Path(__file__).parent), runs=runs))
    ended = ranks("processes.py")
    assert ended.returncode == 0, ended.stderr[-3000:]
    by_rank = [[json.loads(line) for line in Path(f"{rank}.txt").read_text().splitlines()] for rank in (0, 1)]
    assert len(by_rank[0]) == len(by_rank[1]) == len(runs)
    for place, (_, _, short) in enumerate(runs):
        wanted = by_rank[0][0][0]
        for rank in (0, 1):
            weights, size, failures = by_rank[rank][place]
            assert weights == pytest.approx(wanted, rel=1e-10)
            assert (size, failures) == ((2, 2) if short and rank == 1 else (None, 0))
    assert "out of memory; training of process 1 continues in micro-batches of 2" in ended.stdout
    assert "of process 0" not in ended.stdout


class Short(Judged):
    """A task on a device where three samples fit in evaluation."""

    def __init__(self, evaluation: int, **data):
        super().__init__(**data)
        self.ceiling = Ceiling(99, 99, evaluation, None)
        self.net = nn.Sequential(nn.Linear(3 * 6 * 8, 5), self.ceiling, nn.Linear(5, 3))


def test_evaluation_in_parts_has_the_outputs_of_the_whole_batch(capsys):
    found = []
    for evaluation in (99, 3):
        torch.manual_seed(0)
        task, guard = Short(evaluation, **DATA), MemoryGuard()
        _, _, trainer = trained(task, guard)
        trainer.test(task, datamodule=Doubles(batch_size=8, test=11), verbose=False)
        assert task.latest_evaluation.keys.tolist() == list(range(11))
        found.append((float(trainer.callback_metrics["test/accuracy"]), task.latest_evaluation.rows.tolist()))
    assert found[0] == found[1]
    assert limits(guard) == {"training": None, "evaluation": 2} and task.ceiling.failures == 2
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("memory_guard")]
    assert said == ["memory_guard: out of memory; evaluation continues with 2 samples at a time"]


def test_error_if_a_single_sample_does_not_fit():
    with pytest.raises(DoesNotFit) as raised:
        trained(Terms(**DATA, forward=0), MemoryGuard())
    assert raised.value.exit_code == 1 and len(str(raised.value).splitlines()) == 1
    assert str(raised.value).startswith("one sample does not fit: CUDA out of memory. Tried to allocate 3.00")
    assert "of which 1.00 GiB is free" in str(raised.value) and "reserved" not in str(raised.value)
    for help_ in ("data.image_size", "--trainer.precision bf16-mixed", "model.net"):
        assert help_ in str(raised.value)


def test_batch_that_cannot_be_divided_is_refused():
    class Rows(Doubles):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return (*super().on_after_batch_transfer(batch, dataloader_idx)[:2], torch.zeros(17, 6))

    class Task(Squeezed):
        def training_step(self, batch, batch_idx):
            raise torch.OutOfMemoryError(SAID)

    task = Task(**DATA)
    trainer = L.Trainer(fast_dev_run=True, accelerator="cpu", callbacks=[MemoryGuard()], enable_progress_bar=False)
    with pytest.raises(DoesNotFit, match=r"a tensor of \[17, 6\] .* cannot be divided: lower data.batch_size"):
        trainer.fit(task, datamodule=Rows(batch_size=8, val=9))


def test_manual_optimization_is_not_guarded(capsys):
    task = Terms(**DATA, forward=3)
    task.automatic_optimization = False
    trainer = L.Trainer(fast_dev_run=True, accelerator="cpu", callbacks=[MemoryGuard()], enable_progress_bar=False)
    with pytest.raises(torch.OutOfMemoryError):
        trainer.fit(task.double(), datamodule=Doubles(batch_size=8, val=9))
    assert "memory_guard: training is not guarded (manual optimization)" in capsys.readouterr().out


def test_message_names_batch_normalisation_and_inexact_losses(capsys):
    class Normed(Terms):
        additive = False

        def __init__(self, **options):
            super().__init__(**options)
            self.net.insert(1, nn.BatchNorm1d(5))

    task = Normed(**DATA, forward=4)
    trained(task, MemoryGuard())
    said = capsys.readouterr().out
    assert "in micro-batches of 4, with nearly the gradient of the whole batch:" in said
    assert "; batch normalisation uses a micro-batch" in said
    assert task.net[1].momentum == 0.1


@pytest.fixture
def command_line(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(PARTS))
    Path("configs").mkdir()
    Path("configs/tiny.yaml").write_text(
        "trainer: {max_epochs: 1, accelerator: cpu}\nmodel: {class_path: small_memory.Terms}\n"
        "data: {class_path: tiny_task.Shades, init_args: {batch_size: 8}}\n"
    )


def test_resumed_run_knows_the_size(command_line, capsys):
    verbs.fit(["--model.forward", "3"])
    assert "continues in micro-batches of 2, with" in capsys.readouterr().out
    verbs.fit(["--resume", "runs/tiny/version_0", "--trainer.max_epochs", "2"])
    assert "out of memory" not in capsys.readouterr().out
    content = torch.load("runs/tiny/version_0/checkpoints/last.ckpt", weights_only=True)
    assert content["callbacks"]["MemoryGuard"]["sizes"]["training"] == 2
    guard = MemoryGuard()
    guard.load_state_dict({"sizes": {"training": 2}, "memory": 16 * 2**30})
    assert guard.limits["training"].size is None  # that was another device


def test_guard_is_disabled_by_a_flag(command_line):
    with pytest.raises(torch.OutOfMemoryError):
        verbs.fit(["--model.forward", "3", "--memory_guard.enabled", "false"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_with_a_real_limit(capsys):
    """A gigabyte of activations for eight samples, and 600 MB that may be used."""

    class Wide(Terms):
        def __init__(self, **options):
            super().__init__(**options)
            self.net = nn.Sequential(nn.Linear(3 * 6 * 8, 5), Wider(), nn.Linear(5, 3))

    class Wider(nn.Module):
        def forward(self, x):
            return x + (x[:, :1, None].expand(-1, 4000, 1000) * 1e-3).sin().cos().mean((1, 2))[:, None]

    weights = []
    free = torch.cuda.get_device_properties(0).total_memory
    for fraction in (1.0, 600e6 / free):
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(fraction)
        try:
            guard = MemoryGuard()
            weights.append(trained(Wide(**DATA), guard, accelerator="gpu", devices=1)[0].cpu())
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    assert guard.limits["training"].size < 8
    assert torch.allclose(*weights, rtol=1e-8)
