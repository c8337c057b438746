"""MNIST for tests."""

import gzip
import struct
from pathlib import Path

import numpy as np


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
