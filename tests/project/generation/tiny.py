"""Tiny data and arguments, with which the configs of this slice run without a download."""

from pathlib import Path
from typing import Any

from fake_mnist import fake_mnist

METRIC = "test/frechet_distance"


def arguments(run: dict[str, Any], folder: Path) -> list[str]:
    """Write tiny data into a folder, and return the arguments that a config needs beside `--config`.

    Args:
        run: the content of the config.
        folder: the folder of the data.
    """
    if run["data"]["class_path"].endswith("Digits"):
        return ["--model.samples", "50", "--model.solver.steps", "5"]
    fake_mnist(folder)
    return ["--data.root", str(folder)]
