"""Tiny data and arguments, with which the configs of this slice run without a download."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

METRIC = "effective_rank"
RUN = ["--trainer.max_epochs", "2", "--trainer.limit_train_batches", "4", "--model.net.widths", "[4]",
       "--model.net.depth", "1", "--model.clustered_images", "40"]  # fmt: skip


def arguments(run: dict[str, Any], folder: Path) -> list[str]:
    """Write tiny data into a folder, and return the arguments that a config needs beside `--config`.

    Args:
        run: the content of the config.
        folder: the folder of the data.
    """
    if run["data"]["class_path"].endswith("Digits"):
        return ["--model.net.widths", "[4]", "--trainer.limit_val_batches", "3"]
    photos(folder / "a", 40)
    photos(folder / "b", 40)
    return ["--data.root", str(folder), "--model.net.widths", "[4, 6]", "--trainer.limit_val_batches", "2"]


def photos(folder: Path, count: int, size: tuple[int, int] = (36, 40)) -> None:
    """Write `folder/N.png`, random pixels around a colour."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 80, (*size, 3)) + random.integers(0, 170, 3)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
