"""What the dashboard costs: whole runs of MNIST with it and without, in turns.

    python benchmarks/dashboard.py [--root FOLDER] [--rounds 5] [--epochs 2] [--widths 8 16]

Wanted: a ratio of the medians of at most 1.02. Without `--root`, the folder with MNIST, it is noise in MNIST's files,
which takes as long. The net is small, so that what is beside it counts.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from training import REPOSITORY, write_data

WAYS = ("true", "false")


def run(root: Path, folder: Path, enabled: str, words: list[str]) -> tuple[float, float, float]:
    """Seconds of the whole command and of the training alone, and the log's size in MB."""
    line = [sys.executable, "-m", "project.fit", "--config", str(REPOSITORY / "configs/classification_mnist.yaml")]
    line += ["--data.root", str(root), "--dashboard.enabled", enabled, "--name", enabled, "--auto_precision", "false"]
    line += words
    started = time.perf_counter()
    subprocess.run([*line, "--trainer.default_root_dir", str(folder)], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    latest = max((folder / enabled).iterdir(), key=lambda version: version.stat().st_mtime_ns)
    size = sum(file.stat().st_size for file in latest.glob("*tfevents*")) / 1e6
    return seconds, json.loads((latest / "results.json").read_text())["train_seconds"], size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16])
    options = parser.parse_args()
    words = ["--trainer.max_epochs", str(options.epochs), "--model.net.widths", str(options.widths)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        root = options.root or folder
        if options.root is None:
            write_data(folder)
        figures: dict[str, list[tuple[float, float, float]]] = {enabled: [] for enabled in WAYS}
        for place in range(options.rounds):
            for enabled in WAYS[:: -1 if place % 2 else 1]:
                figures[enabled].append(run(root, folder / "runs", enabled, words))
    medians = {enabled: [statistics.median(part) for part in zip(*figures[enabled], strict=True)] for enabled in WAYS}
    print(f"{'dashboard':<10} {'whole run, s':>13} {'training, s':>12} {'log, MB':>8}")
    for enabled, name in zip(WAYS, ("on", "off"), strict=True):
        print("{:<10} {:>13.2f} {:>12.2f} {:>8.2f}".format(name, *medians[enabled]))
    whole, training, _ = (on / off for on, off in zip(*(medians[enabled] for enabled in WAYS), strict=True))
    print(f"{'ratio':<10} {whole:>13.3f} {training:>12.3f}   (wanted: at most 1.02)")


if __name__ == "__main__":
    main()
