"""Tiny data and arguments, with which the configs of this slice run without a download."""

from pathlib import Path
from typing import Any

from fake_mnist import fake_mnist
from PIL import Image

METRIC = "test/f1"
RUN = ["--trainer.max_epochs", "2", "--trainer.limit_train_batches", "4", "--trainer.log_every_n_steps", "1",
       "--model.net.widths", "[4]", "--model.net.depth", "1"]  # fmt: skip


def arguments(run: dict[str, Any], folder: Path) -> list[str]:
    """Write tiny data into a folder, and return the arguments that a config needs beside `--config`.

    Args:
        run: the content of the config.
        folder: the folder of the data.
    """
    given = ["--data.root", str(folder)]
    kind = run["data"]["class_path"].rsplit(".", 1)[1]
    if kind == "TorchvisionDataset":
        fake_mnist(folder)
    elif kind == "ImageFolder":
        class_folders(folder)
    else:
        given = ["--data.scenes", "60"] if kind == "DigitScenes" else []
    if run["model"]["init_args"]["net"].get("init_args", {}).get("pretrained"):
        given += ["--model.net.pretrained", "false"]
    if run["data"]["init_args"].get("image_size", 0) is None:  # from the weights
        given += ["--data.image_size", "[32, 32]"]
    return given


def class_folders(root: Path) -> None:
    for split, count in (("train", 12), ("test", 2)):
        for place, name in enumerate("ab"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (10, 12), (100 * place, 9 * number, 50)).save(root / split / name / f"{number}.png")
