"""Report the metrics of a run: on the terminal, in `results.json`, and as TensorBoard's text."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import lightning as L

from kit.dashboard.progress import speed_text
from kit.dashboard.tensorboard import TensorBoard
from kit.ground.errors import NotMeasured
from kit.ground.files import write_text
from kit.ground.terminal import escape


def report(
    metrics: dict[str, float], figures: dict[str, float], folder: Path | None, notes: Sequence[str] = ()
) -> None:
    """Print the metrics, the notes and the run's figures; write metrics and figures to `folder/results.json`.

    A value that is not finite is null in the file.

    Args:
        metrics: log key to value.
        figures: any of `train_seconds`, `images_per_second`, `peak_memory_bytes` and `left_out_images`.
        folder: the run's folder. If it is None, no figures are printed and no file is written.
        notes: lines that readers of the metrics must know.
    """
    width = max((len(escape(key)) for key in metrics), default=0)
    print()
    for key, value in metrics.items():
        print(f"{escape(key):<{width}}  {value:.4f}")
    for note in notes:
        print(note)
    if folder is None:
        return
    print("\n" + ", ".join([*figure_texts(figures), f"run folder {folder}"]))
    values = {key: value if math.isfinite(value) else None for key, value in {**metrics, **figures}.items()}
    write_text(folder / "results.json", json.dumps(values, indent=2, allow_nan=False) + "\n")


def require_measured(metrics: dict[str, float]) -> None:
    """Check that there are metrics, and that all are finite.

    Raises:
        NotMeasured: there is no metric, or one is not finite.
    """
    if not metrics:
        raise NotMeasured("nothing was measured: the test steps logged no metric")
    if not_finite := [key for key, value in metrics.items() if not math.isfinite(value)]:
        more = f" and {len(not_finite) - 3} more" if len(not_finite) > 3 else ""
        verb, them = ("is", "it") if len(not_finite) == 1 else ("are", "them")
        raise NotMeasured(
            f"{', '.join(not_finite[:3])}{more} {verb} not finite: the data have nothing to measure {them} on, or the "
            "model's outputs are not finite"
        )


def log_report(
    metrics: dict[str, float], figures: dict[str, float], conclusion: str, trainer: L.Trainer, notes: Sequence[str] = ()
) -> None:
    """Log the report as text in TensorBoard, with the conclusion first.

    Args:
        conclusion: the verdict and what to try, see `Overfitting.conclusion`.
    """
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoard):
            rows = [f"| {key} | {value:.4f} |" for key, value in metrics.items()]
            parts = [conclusion.replace("\n", "\n\n"), ", ".join(figure_texts(figures)), *notes]
            text = "\n\n".join([*filter(None, parts), "\n".join(["| | |", "| --- | --- |", *rows])])
            logger.log_text("report", text, trainer.global_step)
            logger.finalize("success")


def figure_texts(figures: dict[str, float]) -> list[str]:
    """Return texts such as `trained in 12.3 s` for the run's figures."""
    texts = {
        "train_seconds": ("trained in {:.1f} s", 1),
        "images_per_second": (f"{speed_text(figures.get('images_per_second', 0))} images/s", 1),
        "peak_memory_bytes": ("peak memory {:,.0f} MB", 1e-6),
    }
    return [text.format(scale * figures[key]) for key, (text, scale) in texts.items() if key in figures]
