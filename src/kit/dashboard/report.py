"""Report a run on the terminal, in `results.json` and as TensorBoard's text."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from rich.table import Column, Table
from rich.text import Text

from kit.dashboard.speed import speed_text
from kit.evaluation import NUM_SHOWN, Evaluation
from kit.ground import app
from kit.ground.errors import NotMeasured
from kit.ground.files import write_text
from kit.ground.terminal import escape, print_styled, styled
from kit.safeguards.messages import log_text

# The keys of `results.json` that are not metrics.
RUN_VALUES = ("train_seconds", "images_per_second", "peak_memory_bytes", "left_out_images")


def report(
    metrics: dict[str, float],
    run_values: dict[str, float],
    folder: Path | None,
    notes: Sequence[str] = (),
    conclusion: str = "",
    evaluation: Evaluation | None = None,
) -> str:
    """Print the conclusion, tables of the metrics, the notes and the run's values.

    Write the metrics and the run's values to `folder/results.json`, with null for a value that is not finite. If there
    is a folder and there are more than 20 classes, the table has the 10 worst and the 10 best classes.

    Args:
        metrics: the value of each metric by log key.
        run_values: numbers about the run, such as its speed. Their keys are some or all of `RUN_VALUES`.
        folder: the run's folder. If it is None, no values of the run are printed and no file is written.
        notes: lines to print below the metrics, such as the number of broken files.
        conclusion: the verdict and suggestions, see `Overfitting.conclusion`.
        evaluation: the evaluation that computed the metrics. It has the number of images or boxes of each class.

    Returns:
        The printed text without the conclusion.
    """
    if folder is not None:
        values = {key: value if math.isfinite(value) else None for key, value in {**metrics, **run_values}.items()}
        write_text(folder / "results.json", json.dumps(values, indent=2, allow_nan=False) + "\n")
    parts = [*_metric_tables(metrics, evaluation, all_classes=folder is None), *notes]
    if folder is not None:
        parts += ["", *filter(None, [", ".join(run_value_texts(run_values)), *_path_lines(folder)])]
    verdict, *suggestions = [escape(line) for line in conclusion.splitlines()] or [""]
    style = "green" if verdict.startswith("verdict: fits well") else "yellow"
    texts = [Text(verdict, f"bold {style}"), *map(Text, suggestions), ""] if verdict else []
    print_styled("", *texts, *parts)
    return styled(*parts).strip("\n")


def _metric_tables(metrics: Mapping[str, float], evaluation: Evaluation | None, all_classes: bool) -> list[Any]:
    """Return a table of the metrics and, if there are metrics of classes, a table with a row for each class.

    The classes are sorted by their first metric, the worst first. Of more than 20 classes, the 10 worst and the 10 best
    have rows, unless `all_classes` is True. Classes whose first metric is NaN come last.
    """
    (overall, by_class, keys), table = grouped(metrics), Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    for key, value in overall.items():
        table.add_row(escape(key), f"{value:.4f}")
    if not by_class:
        return [table] if metrics else []
    unit, counts = "", {}
    if evaluation and (counted := evaluation.class_counts()):
        unit, counts = counted[0], dict(zip(evaluation.class_names, counted[1].tolist(), strict=True))
    rows = []
    first_values = {name: values.get(keys[0], -math.inf) for name, values in by_class.items()}
    for name in sorted(by_class, key=lambda name: (math.isnan(first_values[name]), first_values[name])):
        count = [f"{counts[name]:,}" if name in counts else ""] if counts else []
        values = [f"{by_class[name][key]:.4f}" if key in by_class[name] else "" for key in keys]
        rows.append([escape(name), *count, *values])
    if not all_classes and len(rows) > 2 * NUM_SHOWN:
        rest = [f"... {len(rows) - 2 * NUM_SHOWN:,} more", *[""] * (len(rows[0]) - 1)]
        rows = [*rows[:NUM_SHOWN], rest, *rows[-NUM_SHOWN:]]
    headers = ["class", *([unit] if counts else []), *(escape(key.partition("/")[2]) for key in keys)]
    names = Column(headers[0], overflow="fold")  # in a narrow terminal, long names take several lines
    numbers = [Column(header, justify="right", no_wrap=True) for header in headers[1:]]
    classes = Table(names, *numbers, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        classes.add_row(*row)
    return [table, "", classes]


def grouped(metrics: Mapping[str, float]) -> tuple[dict[str, float], dict[str, dict[str, float]], list[str]]:
    """Return the overall metrics, the metrics by class, and the keys of the metrics by class, such as `test/f1`."""
    overall: dict[str, float] = {}
    by_class: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        if is_of_class(key):
            split, metric, name = key.split("/", 2)
            by_class.setdefault(name, {})[f"{split}/{metric}"] = value
        else:
            overall[key] = value
    return overall, by_class, list(dict.fromkeys(key for values in by_class.values() for key in values))


def is_of_class(key: str) -> bool:
    """Return whether a log key belongs to a single class: SPLIT/METRIC/CLASS."""
    # Lightning adds `/dataloader_idx_0` if a split has several loaders.
    return key.count("/") > 1 and "/dataloader_idx_" not in key


def _path_lines(folder: Path) -> list[str]:
    """Return a line for the run's folder, for its most important files, and for the command that starts TensorBoard."""
    lines = [f"run folder    {folder}", f"report        {folder / 'report.html'}"]
    if (best := folder / "checkpoints" / "best.ckpt").is_file():
        lines.append(f"best weights  {best}")
    if any(folder.glob("events.out.tfevents.*")):
        lines.append(f"TensorBoard   {app.python()} -m tensorboard.main --logdir {shlex.quote(str(folder))}")
    return lines


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


def run_value_texts(run_values: dict[str, float]) -> list[str]:
    """Return texts such as `trained in 12.3 s` for the run's values, except for `left_out_images`."""
    texts = {
        "train_seconds": ("trained in {:.1f} s", 1),
        "images_per_second": (f"{speed_text(run_values.get('images_per_second', 0))} images/s", 1),
        "peak_memory_bytes": ("peak memory {:,.0f} MB", 1e-6),
    }
    return [text.format(scale * run_values[key]) for key, (text, scale) in texts.items() if key in run_values]
