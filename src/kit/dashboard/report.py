"""Report a run on the terminal, in `results.json` and as TensorBoard's text."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import lightning as L

from kit.dashboard.progress import speed_text
from kit.evaluation import worst_and_best
from kit.ground.errors import NotMeasured
from kit.ground.files import write_text
from kit.ground.terminal import escape
from kit.safeguards.messages import log_text


def report(metrics: dict[str, float], figures: dict[str, float], folder: Path | None, notes: Sequence[str] = ()) -> str:
    """Print a table of the metrics, the notes and the run's figures, and return this text.

    Write metrics and figures to `folder/results.json`, with null for a value that is not finite. If there is a folder,
    the table only has the worst and the best of many classes.

    Args:
        metrics: the value of each metric by log key.
        figures: numbers about the run: any of `train_seconds`, `images_per_second`, `peak_memory_bytes` and
            `left_out_images`.
        folder: the run's folder. If it is None, no figures are printed and no file is written.
        notes: lines to print below the metrics, such as the number of broken files.
    """
    shown = metrics if folder is None else worst_and_best(metrics)
    width = max((len(escape(key)) for key in shown), default=0)
    lines = [f"{escape(key):<{width}}  {value:.4f}" for key, value in shown.items()]
    if hidden := len(metrics) - len(shown):
        lines.append(f"and {hidden:,} more metrics of classes, in results.json and report.html")
    lines += notes
    if folder is not None:
        lines += ["", ", ".join([*figure_texts(figures), f"run folder {folder}"])]
    text = "\n".join(lines)
    print(f"\n{text}")
    if folder is not None:
        values = {key: value if math.isfinite(value) else None for key, value in {**metrics, **figures}.items()}
        write_text(folder / "results.json", json.dumps(values, indent=2, allow_nan=False) + "\n")
    return text


def require_measured(metrics: dict[str, float]) -> None:
    """Check that there are metrics, and that all are finite.

    Raises:
        NotMeasured: there is no metric, or one is not finite.
    """
    if not metrics:
        raise NotMeasured("nothing was measured: the test steps logged no metric")
    if not_finite := [key for key, value in metrics.items() if not math.isfinite(value)]:
        names = ", ".join(not_finite[:3]) + ", ..." * (len(not_finite) > 3)
        why = "the model's outputs are not finite, or the data lack what these metrics need"
        raise NotMeasured(f"metrics that are not finite: {names}; {why}")


def log_report(text: str, conclusion: str, trainer: L.Trainer) -> None:
    """Log the result of `report` in TensorBoard, below the verdict and suggestions (see `Overfitting.conclusion`)."""
    paragraphs = conclusion.replace("\n", "\n\n")
    log_text(trainer, "report", f"{paragraphs}\n\n```\n{text}\n```")
    for logger in trainer.loggers:
        logger.save()


def figure_texts(figures: dict[str, float]) -> list[str]:
    """Return texts such as `trained in 12.3 s` for the run's figures, except for `left_out_images`."""
    texts = {
        "train_seconds": ("trained in {:.1f} s", 1),
        "images_per_second": (f"{speed_text(figures.get('images_per_second', 0))} images/s", 1),
        "peak_memory_bytes": ("peak memory {:,.0f} MB", 1e-6),
    }
    return [text.format(scale * figures[key]) for key, (text, scale) in texts.items() if key in figures]
