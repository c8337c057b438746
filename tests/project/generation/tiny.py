"""What the configs of this slice need to run on tiny data, without a download; and a tiny run."""

from pathlib import Path
from typing import Any

from fake_mnist import fake_mnist

METRIC = "test/frechet_distance"


def arguments(run: dict[str, Any], folder: Path) -> list[str]:
    """For the command line, beside `--config`; the data are written into `folder`.

    Args:
        run: what stands in the config.
    """
    if run["data"]["class_path"].endswith("Digits"):
        return ["--model.samples", "50", "--model.solver.steps", "5"]
    fake_mnist(folder)
    return ["--data.root", str(folder)]
