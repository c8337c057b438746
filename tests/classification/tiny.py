"""Tiny data for this slice's configs."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def tiny_data(config: dict[str, Any], folder: Path) -> list[str]:
    """What a config of this slice needs on the command line to run on the CPU in a moment, without a network."""
    given = []
    kind = config["data"]["class_path"].rsplit(".", 1)[1]
    if kind == "TorchvisionDataset":
        fake_mnist(folder)
        given += ["--data.root", str(folder)]
    elif kind == "ImageFolder":
        given += ["--data.root", str(noise(folder / "photos"))]
    if config["model"]["init_args"]["net"].get("init_args", {}).get("pretrained"):
        given += ["--model.net.pretrained", "false"]
    return given


def noise(root: Path) -> Path:
    """Two classes of images of noise, divided into train and test."""
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 2)):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (12, 10, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


def fake_mnist(root: Path) -> None:
    """Sixty images of noise in MNIST's own files."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        pixels = np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8)
        labels = (np.arange(60) % 10).astype(np.uint8)
        images = struct.pack(">IIII", 2051, 60, 28, 28) + pixels.tobytes()
        for name, content in {
            f"{part}-images-idx3-ubyte": images,
            f"{part}-labels-idx1-ubyte": struct.pack(">II", 2049, 60) + labels.tobytes(),
        }.items():
            (raw / name).write_bytes(content)
            (raw / f"{name}.gz").write_bytes(gzip.compress(content))
