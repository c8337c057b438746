"""Tiny data and arguments, with which the configs of this slice run without a download."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from project.cnn import Trunk

METRIC = "val/style"


def arguments(run: dict[str, Any], folder: Path) -> list[str]:
    """Write tiny data into a folder, and return the arguments that a config needs beside `--config`.

    Args:
        run: the content of the config.
        folder: the folder of the data.
    """
    photos(folder, 12)
    classifier(folder / "classifier.ckpt")
    return ["--data.root", str(folder), "--model.style", str(folder / "0.png"), "--data.image_size", "[24, 20]",
            "--model.features.run", str(folder / "classifier.ckpt")]  # fmt: skip


def photos(root: Path, count: int, size: tuple[int, int] = (30, 26)) -> None:
    """`root/N.png`, random pixels around a colour."""
    root.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 80, (*size, 3)) + random.integers(0, 170, 3)
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"{number}.png")


def classifier(file: Path, steps: int = 5, channels: int = 3, stem_stride: int = 2) -> Trunk:
    """What features are taken of, of a checkpoint as a run of a classifier leaves it; its trunk is returned."""
    torch.manual_seed(0)
    trunk = Trunk(channels, [4, 6, 8], depth=[2, 1, 2], stem_stride=stem_stride).eval()
    for norm in (module for module in trunk.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.running_mean, -0.1, 0.1)
    tensors = {f"net.trunk.{name}": tensor for name, tensor in trunk.state_dict().items()}
    net = {"class_path": "its_own.Net", "init_args": {"stem_stride": stem_stride}}
    taught = {"in_channels": channels, "mean": [0.4] * channels, "std": [0.2] * channels}
    content = {
        "state_dict": tensors,
        "global_step": steps,
        "hyper_parameters": {"in_channels": channels, "net": net},
        "ImageFolder": taught,
    }
    torch.save(content, file)
    return trunk
