"""What a config reaches: mean and standard deviation of every result over several seeds.

    python benchmarks/learning.py --config configs/TASK.yaml --seeds 3 [--data.root FOLDER ...]

Whatever it does not know itself it hands to `python -m project.fit`. The runs lie in a temporary folder.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def results(seed: int, arguments: list[str]) -> dict[str, float]:
    """One run's results.json."""
    with tempfile.TemporaryDirectory() as folder:
        name = f"benchmark_{seed}"
        own = ["--seed_everything", str(seed), "--name", name, "--trainer.default_root_dir", folder]
        # The precision must not depend on the machine's speed. The figures in the headers of configs are those of fp32.
        command = [sys.executable, "-m", "project.fit", "--auto_precision", "false", *arguments, *own]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            print(run.stdout + run.stderr, file=sys.stderr, end="")
            sys.exit(run.returncode if run.returncode > 0 else 128 - run.returncode)
        files = list(Path(folder, name).glob("*/results.json"))
        if not files:  # such as after --trainer.fast_dev_run
            sys.exit(f"the run with seed {seed} wrote no results.json\n{run.stdout}{run.stderr}")
        return json.loads(files[0].read_text())


def number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", action="append", default=[], help="a config file, as of fit; later ones win")
    parser.add_argument("--seeds", type=int, default=3, help="how many: 0, 1, ... (3)")
    options, of_fit = parser.parse_known_args()
    if options.seeds < 1:
        parser.error("--seeds needs at least 1")
    arguments = [part for file in options.config for part in ("--config", file)] + [a for a in of_fit if a != "--"]

    runs = []
    for seed in range(options.seeds):
        started = time.monotonic()
        runs.append(results(seed, arguments))
        print(f"seed {seed}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)

    rows = []
    for key in runs[0]:
        values = [run[key] for run in runs if key in run]
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        # The spread of what is large in few digits says nothing in four decimals.
        rows.append((key, number(statistics.fmean(values)), f"{spread:.4f}" if values[0] < 10 else number(spread)))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for key, mean, spread in rows:
        print(f"{key:<{widths[0]}}  {mean:>{widths[1]}} +- {spread:>{widths[2]}}")


if __name__ == "__main__":
    main()
