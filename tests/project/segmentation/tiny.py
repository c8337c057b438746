"""Tiny data and arguments, with which the configs of this slice run without a download."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

METRIC = "test/miou"
RUN = ["--trainer.max_epochs", "1", "--data.train", "24", "--data.val", "5", "--data.test", "7", "--data.batch_size",
       "4", "--model.net.widths", "[4, 6]", "--model.losses+=kit.masks.Focal"]  # fmt: skip


def picture(height: int, width: int, seed: int = 0) -> tuple[Image.Image, np.ndarray]:
    """A noisy image and its mask, uint8 [height width] of the ids 0, 1 and 2: a class a shade, in vertical bands."""
    random = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    mask[:, width // 3 :] = 1
    mask[height // 2 :, width // 2 :] = 2
    pixels = random.integers(0, 60, (height, width, 3)) + 90 * mask[..., None]
    return Image.fromarray(pixels.astype(np.uint8)), mask


def pixels(image: Image.Image) -> np.ndarray:
    """uint8 [H W C]."""
    return np.array(image)


def folders(root: Path, counts: dict[str, int], size: tuple[int, int] = (18, 26)) -> Path:
    """SegNet's layout: `train/N.png`, `trainannot/N.png`, and the names in `classes.txt`."""
    for split, count in counts.items():
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True)
        for number in range(count):
            image, mask = picture(*size, seed=number)
            image.save(root / split / f"{number}.png")
            Image.fromarray(mask).save(root / f"{split}annot" / f"{number}.png")
    (root / "classes.txt").write_text("sky\nroad\ncar\nUnlabelled\n")
    return root


def arguments(run: dict[str, Any], folder: Path) -> list[str]:
    """Write tiny data into a folder, and return the arguments that a config needs beside `--config`.

    Args:
        run: the content of the config.
        folder: the folder of the data.
    """
    if run["data"]["class_path"].endswith("DigitMasks"):
        return ["--data.train", "12", "--data.val", "4", "--data.test", "4"]
    given = ["--data.root", str(folders(folder, {"train": 12, "val": 4, "test": 4}))]
    if run["model"]["init_args"]["net"].get("init_args", {}).get("pretrained"):
        given += ["--model.net.pretrained", "false", "--data.image_size", "[48, 64]"]
    return given
