"""What the guards cost, and what they save: all that is promised of them, measured.

    python benchmarks/safeguards.py [--only step saving] [--root FOLDER] [--runs 20] [--widths 32 64 128]

step        The step time with guards and without, in one process, in turns of ten steps, on images as MNIST's.
saving      How long a checkpoint stops training.
nan         Runs of two epochs of MNIST into each of which a NaN is put, at a random step, into the input, the loss, a
            gradient or a weight: all are wanted to end with finite weights and a test accuracy near that of a run that
            nobody disturbed. `--root` is the folder with MNIST, to which it is downloaded where it is not there.
resume      Runs that are killed and resumed, of each task and of two processes: see `resume.py`.
strangers   Checkpoints with hostile content: see `hostile.py`.

All of it takes an hour on two cores; the first two take a minute.
"""

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from training import write_data

from kit.cli import command_line as cli
from kit.cli import process
from kit.safeguards import ExactResume, MemoryGuard, NanGuard, Overfitting

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.append(str(REPOSITORY / "tests/kit/parts"))
from poison import Poison  # noqa: E402

CONFIG = REPOSITORY / "configs/classification_mnist.yaml"
GUARDS = (ExactResume, MemoryGuard, NanGuard, Overfitting)
ROWS = ("step", "saving", "nan", "resume", "strangers")
PLACES = ("input", "loss", "gradient", "weight")
TURN = 10  # steps


class Turns(L.Callback):
    """Takes the guards away and brings them back every `TURN` steps; the seconds of each step."""

    def __init__(self, skip: int) -> None:
        self.seconds: dict[bool, list[float]] = {True: [], False: []}
        self.steps, self.skip, self.guarded, self.since = 0, skip, True, 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.all = trainer.callbacks
        self.others = [callback for callback in self.all if not isinstance(callback, GUARDS)]

    def on_train_batch_end(self, trainer: L.Trainer, *_) -> None:
        now = time.perf_counter()
        if self.steps >= self.skip and self.steps % TURN:  # the first of a turn is still half of the other kind
            self.seconds[self.guarded].append(now - self.since)
        self.steps += 1
        if self.steps % TURN == 0:
            self.guarded = not self.guarded
            trainer.callbacks = self.all if self.guarded else self.others
        self.since = time.perf_counter()


def build(root: Path, options: dict[str, object]) -> cli.CLI:
    given = {"--config": CONFIG, "--data.root": root, "--name": "guards", "--check": "off", **options}
    return cli.CLI([str(part) for pair in given.items() for part in pair])


def step_time(folder: Path, widths: list[int], steps: int = 400) -> None:
    """Prints the medians; a snapshot, which is taken rarely, is timed apart and counted with its share."""
    write_data(folder)
    options = {"--trainer.max_epochs": 1, "--trainer.limit_train_batches": steps, "--trainer.limit_val_batches": 1}
    options |= {"--trainer.default_root_dir": folder / "runs", "--model.net.widths": widths}
    run = build(folder, options)
    turns = Turns(skip=2 * TURN)
    run.trainer.callbacks.append(turns)
    guard = next(callback for callback in run.trainer.callbacks if isinstance(callback, NanGuard))
    take, snapshots = guard.snapshots.take, []

    def timed(*arguments) -> None:
        started = time.perf_counter()
        take(*arguments)
        snapshots.append(time.perf_counter() - started)

    guard.snapshots.take = timed
    run.trainer.fit(run.model, datamodule=run.datamodule)
    on, off = (1000 * statistics.median(turns.seconds[which]) for which in (True, False))
    snapshot = 1000 * statistics.median(snapshots)
    on += snapshot / guard.snapshot_every
    print(f"step with guards {on:.2f} ms, without {off:.2f} ms, ratio {on / off:.3f}   wanted <= 1.02")
    print(f"a snapshot every {guard.snapshot_every} steps: {snapshot:.2f} ms, counted with its share")


def accuracy(root: Path, folder: Path, widths: list[int], *callbacks: L.Callback) -> tuple[float, bool, int]:
    """Test accuracy of the last weights, whether they are finite, and how many steps there were."""
    options = {"--trainer.max_epochs": 2, "--trainer.default_root_dir": folder, "--model.net.widths": widths}
    run = build(root, options)
    run.trainer.callbacks[:0] = callbacks
    run.trainer.fit(run.model, datamodule=run.datamodule)
    finite = all(bool(value.isfinite().all()) for value in run.model.state_dict().values())
    found = run.trainer.test(run.model, datamodule=run.datamodule, verbose=False)[0]
    return found["test/accuracy"], finite, run.trainer.global_step


def poisoned(root: Path, folder: Path, widths: list[int], runs: int) -> None:
    """Prints a line for each run and the worst."""
    wanted, _, steps = accuracy(root, folder, widths)
    print(f"undisturbed: test accuracy {wanted:.4f}", flush=True)
    draw, worst, ended = random.Random(0), 0.0, 0
    for number in range(runs):
        where, step = PLACES[number % len(PLACES)], draw.randrange(steps)
        reached, finite, _ = accuracy(root, folder, widths, Poison(where, [step]))
        worst, ended = max(worst, abs(reached - wanted)), ended + finite
        print(f"{where:8} at step {step:4}: {reached:.4f}, weights {'finite' if finite else 'NOT FINITE'}", flush=True)
    print(f"{ended} of {runs} finite, accuracy off by {worst:.4f} at most   wanted all, <= 0.003")


class Large(L.LightningModule):
    """100 MB of weights whose steps take a fifth of a second or so: what a checkpoint costs is seen beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterList(torch.randn(2_500_000) for _ in range(10))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return sum(weight.square().mean() for weight in self.weights)

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(torch.zeros(40), batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


class Timed(ExactResume):
    def __init__(self) -> None:
        super().__init__(every_minutes=0)
        self.seconds: list[float] = []

    def _save_and_stop(self, trainer: L.Trainer, save: bool, stop: bool) -> None:
        begun = time.perf_counter()
        super()._save_and_stop(trainer, save, stop)
        if save:
            self.seconds.append(time.perf_counter() - begun)


def saving() -> None:
    """Prints the seconds that each checkpoint stopped training."""
    timed = Timed()
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=1, callbacks=[timed], default_root_dir=folder, enable_checkpointing=False, **options
        )
        trainer.fit(Large())
    first, *others = timed.seconds
    print(
        f"a checkpoint of 300 MB stops training for {statistics.median(others):.3f} s, at most {max(others):.3f} s, "
        f"the first for {first:.3f} s   wanted <= 0.1",
        flush=True,
    )


def script(name: str, *arguments: str) -> None:
    subprocess.run([sys.executable, str(REPOSITORY / "benchmarks" / name), *arguments], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=ROWS, help="some of it")
    parser.add_argument("--root", type=Path, default=Path("data"), help="the folder with MNIST (data)")
    parser.add_argument("--runs", type=int, default=20, help="with a NaN, or killed (20)")
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128], help="of the net (32 64 128)")
    options = parser.parse_args()
    process.prepare()
    with tempfile.TemporaryDirectory() as folder:
        if "step" in options.only:
            step_time(Path(folder), options.widths)
        if "saving" in options.only:
            saving()
        if "nan" in options.only:
            poisoned(options.root.resolve(), Path(folder) / "runs", options.widths, options.runs)
        if "resume" in options.only:
            script("resume.py", "--runs", str(options.runs))
            script("resume.py", "--runs", str(options.runs), "--processes", "2", "--task", "classification")
        if "strangers" in options.only:
            script("hostile.py")


if __name__ == "__main__":
    main()
