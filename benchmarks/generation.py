"""How good samples are, and how fast they are made: trains a config, and prints the figures of its report.

    python benchmarks/generation.py [--config configs/generation.yaml] [--samples 100] [--data.root FOLDER ...]

Whatever it does not know itself it hands to `python -m project.fit`. The run lies in a temporary folder.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import project

REPEATS = 3


def seconds_of_samples(run: Path, count: int) -> float:
    """To make so many at once, on the CPU; the median of several times."""
    model, spent = project.load(run, device="cpu"), []
    classes = torch.arange(count) % model.task.num_classes
    for _ in range(REPEATS):
        since = time.perf_counter()
        model.task.sample(classes, range(count), model.preprocessing.size)
        spent.append(time.perf_counter() - since)
    return statistics.median(spent)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", default="configs/generation.yaml", help="a config file, as of fit")
    parser.add_argument("--samples", type=int, default=100, help="how many are made against the clock (100)")
    options, of_fit = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        own = ["--config", options.config, "--name", "benchmark", "--trainer.default_root_dir", folder]
        subprocess.run([sys.executable, "-m", "project.fit", *own, *of_fit], check=True, stdout=sys.stderr)
        run = Path(folder, "benchmark", "version_0")
        found = json.loads((run / "results.json").read_text())
        seconds = seconds_of_samples(run, options.samples)
    split = "test" if "test/loss" in found else "val"
    distance = found[f"{split}/frechet_distance"]
    floor = found[f"{split}/frechet_distance/train_images"]
    rows = [
        ("training", f"{found['train_seconds']:.0f} s"),
        ("accuracy of the classifier that judges", f"{found[f'{split}/judge_accuracy']:.4f}"),
        (f"Frechet distance to {split}: training images", f"{floor:.3f}"),
        ("    samples", f"{distance:.3f}, {distance / floor:.2f} times that"),
    ]
    for name, key in (("a Gaussian per class and pixel", "gaussian"), ("noise", "noise")):
        value = found[f"{split}/frechet_distance/{key}"]
        rows.append((f"    {name}", f"{value:.3f}, {value / floor:.2f} times that"))
    rows += [
        ("agreement with the class asked for", f"{found[f'{split}/agreement']:.4f}"),
        ("distance to the nearest training image: samples", f"{found[f'{split}/nearest_distance']:.4f}"),
        (f"    {split}'s images", f"{found[f'{split}/nearest_distance/real_images']:.4f}"),
        (f"{options.samples} samples", f"{seconds:.2f} s"),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


if __name__ == "__main__":
    main()
