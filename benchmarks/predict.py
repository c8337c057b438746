"""`project.predict` over many images against a bare PyTorch loop with the same net, decoding included.

    python benchmarks/predict.py [--rounds 3] [--images 10000] [--run RUN --folder FOLDER]

The bare loops: PIL and torchvision's v2 transforms one image after the other, and the same in a DataLoader with a
worker for each core; both write a line for each image. Wanted: at least 0.95 of the faster one's images/s, and a peak
memory over all images of at most 1.05 of that over a tenth of them. Each measurement is a process of its own; loading
the model is left out. Without a run, one is made of `configs/classification_folder.yaml` and 160x120 JPEGs.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

import project
from kit.cli import process
from kit.data import Preprocessing
from kit.formats.folders import images as images_in
from kit.prediction import predict

REPOSITORY = Path(__file__).resolve().parent.parent
BATCH = 32


class Photos(Dataset):
    """As a tutorial has it."""

    def __init__(self, files: list[Path], preprocessing: Preprocessing) -> None:
        self.files, self.mode = files, "L" if preprocessing.channels == 1 else "RGB"
        self.transform = v2.Compose(
            [
                v2.PILToTensor(),
                v2.Resize(preprocessing.size, antialias=True),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(preprocessing.mean, preprocessing.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.files[index]) as image:
            return self.transform(image.convert(self.mode))


def bare(run: str, files: list[Path], folder: Path, workers: int) -> None:
    model = project.load(run)
    loader = DataLoader(Photos(files, model.preprocessing), batch_size=BATCH, num_workers=workers)
    started, names = time.perf_counter(), iter(files)
    with torch.inference_mode(), (folder / "bare.csv").open("w") as lines:
        for images in loader:
            for value, label in zip(*(t.tolist() for t in model.task.net(images).softmax(1).max(1)), strict=True):
                lines.write(f"{next(names)},{model.class_names[label]},{value:.6f}\n")
    told(len(files), time.perf_counter() - started)


def ours(run: str, files: list[Path], folder: Path) -> None:
    started = time.perf_counter()
    project.load(run)
    loading = time.perf_counter() - started
    started = time.perf_counter()
    predict([run, *map(str, files), "--out", str(folder / "out"), "--batch_size", str(BATCH)])
    told(len(files), time.perf_counter() - started - loading)


def told(count: int, seconds: float) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"speed": count / seconds, "memory": memory}))


def measure(kind: str, run: str, images: Path, count: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--only", kind, "--run", run, "--folder", str(images), "--images", str(count)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(said.splitlines()[-1])


def make_run(folder: Path) -> str:
    """One epoch on ten images of two classes: what is measured does not depend on what it has learned."""
    write_photos(folder / "train" / "a", 10)
    write_photos(folder / "train" / "b", 10)
    config = ["--config", str(REPOSITORY / "configs" / "classification_folder.yaml"), "--data.root", str(folder)]
    options = [
        *config,
        "--trainer.max_epochs",
        "1",
        "--trainer.default_root_dir",
        str(folder / "runs"),
        "--check",
        "off",
    ]
    subprocess.run([sys.executable, "-m", "project.fit", *options], check=True, stdout=subprocess.DEVNULL)
    return str(folder / "runs" / "classification_folder" / "version_0")


def write_photos(folder: Path, count: int) -> None:
    """JPEGs with edges and shades, as photographs have them."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((160, 120), Image.Resampling.BICUBIC).save(folder / f"{number:05}.jpg", quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--rounds", type=int, default=3, help="of all in turns (3)")
    parser.add_argument("--images", type=int, default=10000)
    parser.add_argument("--run", help="a run of classification")
    parser.add_argument("--folder", type=Path, help="its images, taken again and again until there are enough")
    parser.add_argument("--only", choices=["ours", "loop", "loader"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if options.only:
            process.prepare()
            files = images_in(options.folder)[: options.images]
            if options.only == "ours":
                ours(options.run, files, folder)
            else:
                bare(options.run, files, folder, 0 if options.only == "loop" else os.cpu_count() or 1)
            return
        run, images = options.run or make_run(folder / "made"), folder / "images"
        if options.folder:
            there = images_in(options.folder)
            images.mkdir()
            for number in range(options.images):
                source = there[number % len(there)].resolve()
                (images / f"{number:06}{source.suffix}").symlink_to(source)
        else:
            write_photos(images, options.images)
        kinds, few = ("ours", "loop", "loader"), options.images // 10
        rounds = [{kind: measure(kind, run, images, options.images) for kind in kinds} for _ in range(options.rounds)]
        speed = {kind: statistics.median(r[kind]["speed"] for r in rounds) for kind in kinds}
        large = statistics.median(r["ours"]["memory"] for r in rounds)
        small = statistics.median(measure("ours", run, images, few)["memory"] for _ in range(options.rounds))
    for kind in kinds:
        print(f"{kind:<8} {speed[kind]:>8,.0f} images/s")
    ratio = speed["ours"] / max(speed["loop"], speed["loader"])
    print(f"speed of predict / the faster loop: {ratio:.3f} (wanted: >= 0.95)")
    said = f"memory of {options.images:,} images / of {few:,}: {large / small:.3f} (wanted: <= 1.05)"
    print(f"{said}; {large / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
