"""Runs that are killed with SIGKILL at random moments and resumed, against one that never was.

    python benchmarks/resume.py [--runs 20] [--task detection] [--processes 2] [--workers 2] [--seed 0]

Each task trains on its embedded data. A killed run writes its checkpoints as often as chance has it, is killed between
its start and the time that the whole run took, once or twice, and is resumed until it ends. Then weights, optimizer,
the callbacks' states and the best checkpoint must be equal bit for bit, as must the test metrics, and TensorBoard's
points as (tag, step, value). Wanted: all of them.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kit.cli import process, verbs

REPOSITORY = Path(__file__).resolve().parent.parent
EPOCHS = {"classification": 4, "detection": 2, "segmentation": 2, "generation": 4}
OWN = {"generation": ["--trainer.check_val_every_n_epoch=1", "--model.samples=50"]}  # of a task
SHORT = ["--trainer.limit_train_batches=12", "--trainer.limit_val_batches=4", "--trainer.limit_test_batches=4"]
EVERY_MINUTES = ("0", "0.01", "10")


def command(task: str, name: str, options: argparse.Namespace) -> list[str]:
    config = REPOSITORY / "configs" / f"{task}.yaml"
    words = ["--config", str(config), "--name", name, "--check", "off", "--trainer.accelerator", "cpu", *SHORT]
    words += ["--trainer.max_epochs", str(EPOCHS[task]), "--trainer.log_every_n_steps", "3"]
    words += ["--data.num_workers", str(options.workers), "--data.batch_size", "8", "--early_stopping.patience", "2"]
    words += OWN.get(task, [])
    if options.processes > 1:
        words += ["--trainer.devices", str(options.processes), "--trainer.strategy", "ddp"]
    return words


def start(words: list[str], folder: Path, processes: int) -> int:
    """Runs `project.fit` in a group of processes of its own and returns that one's number.

    One process is forked from this one, which has imported everything already; several start as they do by hand.
    """
    if processes > 1:
        output = (folder / "output").open("a")
        line = [sys.executable, "-m", "project.fit", *words]
        return subprocess.Popen(line, cwd=folder, start_new_session=True, stdout=output, stderr=output).pid
    number = os.fork()
    if number == 0:
        os.setsid()
        os.chdir(folder)
        output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv[1:] = words
        try:
            process.main(verbs.fit)
        except SystemExit as ended:
            sys.stdout.flush()
            os._exit(int(ended.code or 0))
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            os._exit(1)
    return number


def finish(number: int, folder: Path) -> None:
    _, status = os.waitpid(number, 0)
    assert os.waitstatus_to_exitcode(status) == 0, (folder / "output").read_text()[-3000:]


def killed(
    task: str, name: str, folder: Path, seconds: float, options: argparse.Namespace, draw: random.Random
) -> Path:
    """A run that is killed once or twice and then ends."""
    run = folder / "runs" / name / "version_0"
    words = command(task, name, options)
    for _ in range(draw.choice((1, 1, 2))):
        number = start([*words, "--exact_resume.every_minutes", draw.choice(EVERY_MINUTES)], folder, options.processes)
        while not (run / "config.yaml").exists():
            time.sleep(0.01)
        time.sleep(draw.uniform(0, seconds))
        os.killpg(number, signal.SIGKILL)
        os.waitpid(number, 0)
        words = ["--resume", str(run)]
    if not (run / "results.json").exists():  # it had not ended before the kill
        finish(start(words, folder, options.processes), folder)
    return run


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return set(a) == set(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def result(run: Path) -> dict[str, Any]:
    """All that must be equal; not where the run lies, and what a clock has measured."""
    found: dict[str, Any] = {}
    for name in ("last", "best"):
        content = found[name] = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        for state in content["callbacks"].values():
            for key in ("dirpath", "best_k_models", *(key for key in list(state) if key.endswith("path"))):
                state.pop(key, None)
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("speed/")]
    # A validation that was repeated has logged the same point twice.
    found["log"] = sorted({(tag, event.step, event.value) for tag in tags for event in events.Scalars(tag)})
    results = json.loads((run / "results.json").read_text())
    found["metrics"] = {key: value for key, value in results.items() if "/" in key}
    return found


def exact(task: str, options: argparse.Namespace) -> tuple[int, list[str]]:
    """How many of the killed runs ended as the whole one, and what differed in the others."""
    draw, faults = random.Random(options.seed), []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        number = start(command(task, "whole", options), folder, options.processes)
        while not (folder / "runs/whole/version_0/config.yaml").exists():
            time.sleep(0.01)
        begun = time.perf_counter()
        finish(number, folder)
        seconds = time.perf_counter() - begun
        whole = result(folder / "runs/whole/version_0")
        for at in range(options.runs):
            ended = result(killed(task, f"killed_{at}", folder, seconds, options, draw))
            differing = [part for part in whole if not equal(whole[part], ended[part])]
            faults += [f"{task} {at}: {', '.join(differing)}"] if differing else []
    return options.runs - len(faults), faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="killed runs of each task (20)")
    parser.add_argument("--task", choices=list(EPOCHS), help="one of them, instead of all that are here")
    parser.add_argument("--processes", type=int, default=1, help="of a run (1)")
    parser.add_argument("--workers", type=int, default=0, help="of each process, that load its images (0)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    process.quiet()
    there = [task for task in EPOCHS if (REPOSITORY / "src/project" / task).is_dir()]
    for task in [options.task] if options.task else there:
        same, faults = exact(task, options)
        told = f"{options.processes} process(es), {options.workers} worker(s)"
        print(f"{task:16}{same} of {options.runs} exact   {told}", *faults, sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
