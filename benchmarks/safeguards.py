"""What the guards cost, and what they save.

    python benchmarks/safeguards.py [--root FOLDER] [--runs 20] [--widths 32 64 128]

The step time with guards and without, in one process, in turns of ten steps, on images as MNIST's: wanted <= 1.02.
With a folder that holds MNIST: runs of two epochs into each of which a NaN is put, at a random step, into the input,
the loss, a gradient or a weight: all are wanted to end with finite weights and a test accuracy within 0.003 of a run
that nobody disturbed.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import lightning as L
from training import write_data

from project import cli, process
from project.safeguards import ExactResume, MemoryGuard, NanGuard, Overfitting

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.append(str(REPOSITORY / "tests/parts"))
from poison import Poison  # noqa: E402

CONFIG = REPOSITORY / "configs/classification_mnist.yaml"
GUARDS = (ExactResume, MemoryGuard, NanGuard, Overfitting)
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


def step_time(folder: Path, widths: list[int], steps: int) -> None:
    """Prints the medians; a snapshot, which is taken rarely, is timed apart and counted with its share."""
    write_data(folder)
    process.prepare()
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="a folder with MNIST; without it only the step time is measured")
    parser.add_argument("--runs", type=int, default=20, help="with a NaN (20)")
    parser.add_argument("--steps", type=int, default=400, help="of which the time is taken (400)")
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128], help="of the net (32 64 128)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        step_time(Path(folder), options.widths, options.steps)
        if options.root:
            poisoned(options.root.resolve(), Path(folder) / "runs", options.widths, options.runs)


if __name__ == "__main__":
    main()
