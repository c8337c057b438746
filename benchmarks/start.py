"""Seconds from process start to the end of the first training step, against the imports that no run can do without.

    python benchmarks/start.py [--rounds 7] [FIT'S OPTIONS]

The default run as it is: `python -m project.fit`. Wanted: a ratio of at most 1.15 to importing torch, torchvision,
lightning and torchmetrics.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
IMPORTS = ["-c", "import time, torch, torchvision, lightning, torchmetrics; print('at', time.monotonic())"]

# In a file of its own, for the run to find by class path: this one's imports would be none of the run's.
FIRST_STEP = """
import os, time
import lightning as L

class FirstStep(L.Callback):
    def on_train_batch_end(self, *_):
        print("at", time.monotonic(), flush=True)
        os._exit(0)
"""


def seconds(arguments: list[str], environment: dict[str, str]) -> float:
    """From here until the child says so; the monotonic clock is the same for all processes."""
    started = time.monotonic()
    child = subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    said = [line.split()[1] for line in child.stdout.splitlines() if line.startswith("at ")]
    if child.returncode or not said:
        print(child.stdout + child.stderr, file=sys.stderr)
        sys.exit(child.returncode or 1)
    return float(said[-1]) - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--rounds", type=int, default=7, help="of both in turns (7), after one that does not count")
    options, of_fit = parser.parse_known_args()

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "first_step.py").write_text(FIRST_STEP)
        path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path}
        fit = ["-m", "project.fit", "--trainer.callbacks", "first_step.FirstStep", *of_fit]
        fit += ["--trainer.default_root_dir", str(Path(folder) / "runs")]
        pairs = [(seconds(fit, environment), seconds(IMPORTS, environment)) for _ in range(1 + options.rounds)][1:]

    first_step, imports = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"{'first step s':>12}{'imports s':>12}{'ratio':>9}   wanted")
    print(f"{first_step:12.2f}{imports:12.2f}{statistics.median(a / b for a, b in pairs):9.3f}   <= 1.15")


if __name__ == "__main__":
    main()
