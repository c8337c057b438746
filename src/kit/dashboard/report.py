"""Report a run: on the terminal, in `results.json`, as TensorBoard's text, and on the HTML page `report.html`.

The page needs no other file. It has the verdict, the metrics, their curves, the confusion matrix, the worst images, the
faults of the data and the config. Its template is `report_page.html`.
"""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from rich.table import Column, Table
from rich.text import Text

from kit.checks.report import faults_values
from kit.checks.survey import Survey
from kit.dashboard.charts import draw_chart
from kit.dashboard.pictures import has_whole_net, sample_pictures
from kit.dashboard.speed import speed_text
from kit.dashboard.tensorboard import encode
from kit.data import ImageDataModule
from kit.evaluation import NUM_SHOWN, Evaluation
from kit.ground import app
from kit.ground._lightning import data_module
from kit.ground.errors import NotMeasured, one_line
from kit.ground.files import write_text
from kit.ground.html import PAGES
from kit.ground.terminal import escape, print_styled, styled
from kit.safeguards import Overfitting
from kit.safeguards.checkpoints import monitored_metrics
from kit.safeguards.messages import log_text
from kit.task import as_task


def report(
    metrics: dict[str, float],
    figures: dict[str, float],
    folder: Path | None,
    notes: Sequence[str] = (),
    conclusion: str = "",
    evaluation: Evaluation | None = None,
) -> str:
    """Print the conclusion, tables of the metrics, the notes and the run's figures. Return all but the conclusion.

    Write metrics and figures to `folder/results.json`, with null for a value that is not finite. If there is a folder,
    the table of the classes only has the worst and the best of many.

    Args:
        metrics: the value of each metric by log key.
        figures: numbers about the run: any of `train_seconds`, `images_per_second`, `peak_memory_bytes` and
            `left_out_images`.
        folder: the run's folder. If it is None, no figures are printed and no file is written.
        notes: lines to print below the metrics, such as the number of broken files.
        conclusion: the verdict and suggestions, see `Overfitting.conclusion`.
        evaluation: what the metrics were computed from. It gives the number of images or boxes of each class.
    """
    if folder is not None:
        values = {key: value if math.isfinite(value) else None for key, value in {**metrics, **figures}.items()}
        write_text(folder / "results.json", json.dumps(values, indent=2, allow_nan=False) + "\n")
    parts: list[Any] = [*_metric_tables(metrics, evaluation, all_classes=folder is None)]
    parts += [Text(note, no_wrap=True) for note in notes]
    if folder is not None:
        lines = [", ".join(figure_texts(figures)), *_places(folder)]
        parts += ["", *(Text(escape(line), no_wrap=True) for line in lines if line)]
    verdict, _, suggestions = conclusion.partition("\n")
    style = "green" if verdict.startswith("verdict: fits well") else "yellow"
    texts = [Text(verdict, f"bold {style}"), *([suggestions] if suggestions else []), ""] if verdict else []
    print_styled("", *texts, *parts)
    return styled(*parts).strip("\n")


def _metric_tables(metrics: Mapping[str, float], evaluation: Evaluation | None, all_classes: bool) -> list[Any]:
    """Return a table of the metrics and, if there are metrics of classes, one with a row for each class.

    The classes are sorted by their first metric, the worst first. Of more than 20 classes, the 10 worst and the 10 best
    have rows, unless `all_classes` is True.
    """
    overall, by_class = Table.grid(padding=(0, 2)), metrics_by_class(metrics)
    overall.add_column()
    overall.add_column(justify="right", no_wrap=True)
    for key, value in metrics.items():
        if key.count("/") < 2:
            overall.add_row(escape(key), f"{value:.4f}")
    if not by_class:
        return [overall] if metrics else []
    keys = list(dict.fromkeys(key for values in by_class.values() for key in values))
    unit, counts = "", {}
    if evaluation and (counted := evaluation.class_counts()):
        unit, counts = counted[0], dict(zip(evaluation.class_names, counted[1].tolist(), strict=True))
    headers = [*([unit] if counts else []), *(escape(key.partition("/")[2]) for key in keys)]
    columns = [Column(header, justify="right", no_wrap=True) for header in headers]
    classes = Table(Column("class", overflow="ellipsis"), *columns, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    names = sorted(by_class, key=lambda name: by_class[name].get(keys[0], -math.inf))
    hidden = [] if all_classes else names[NUM_SHOWN:-NUM_SHOWN]
    for name in names:
        if name not in hidden:
            count = [f"{counts[name]:,}" if name in counts else ""] if counts else []
            values = [f"{by_class[name][key]:.4f}" if key in by_class[name] else "" for key in keys]
            classes.add_row(escape(name), *count, *values)
        elif name == hidden[0]:
            classes.add_row(f"... {len(hidden):,} more", style="dim")
    return [overall, "", classes]


def metrics_by_class(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return the metrics of each class by its name, then by a key such as `test/accuracy`."""
    by_class: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        if key.count("/") > 1:
            split, metric, name = key.split("/", 2)
            by_class.setdefault(name, {})[f"{split}/{metric}"] = value
    return by_class


def _places(folder: Path) -> list[str]:
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


def figure_texts(figures: dict[str, float]) -> list[str]:
    """Return texts such as `trained in 12.3 s` for the run's figures, except for `left_out_images`."""
    texts = {
        "train_seconds": ("trained in {:.1f} s", 1),
        "images_per_second": (f"{speed_text(figures.get('images_per_second', 0))} images/s", 1),
        "peak_memory_bytes": ("peak memory {:,.0f} MB", 1e-6),
    }
    return [text.format(scale * figures[key]) for key, (text, scale) in texts.items() if key in figures]


NUM_WORST = 8  # the number of worst images on the page
MAX_POINTS = 500  # if a curve has more points, every second point is removed, but not the first and the last
WIDTH, HEIGHT = 424, 192  # of a chart without its labels, in pixels
Curve = list[tuple[int, float]]  # the step and the value at each validation


class ReportPage(L.Callback):
    """Collect curves and images during training and testing, and write the page.

    Checkpoints hold the curves, so the page of a resumed run has them from the start. Drawing leaves the random state
    untouched. If it raises an exception, the callback warns, and the page lacks images.

    Args:
        overfitting: the callback that scores training images.

    Attributes:
        survey: the faults of the data, or None if the data were not checked.
    """

    def __init__(self, overfitting: Overfitting) -> None:
        self.overfitting = overfitting
        self.survey: Survey | None = None
        self._curves: dict[str, Curve] = {}  # by log key
        self._losses = torch.zeros(2)  # the sum and the number of the training losses since the last validation
        self._pictures: dict[str, bytes] = {}  # by title

    def state_dict(self) -> dict[str, Any]:
        return {"curves": {key: [*curve] for key, curve in self._curves.items()}, "train_loss": self._losses.tolist()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not self._curves:  # the test after training loads the best checkpoint, whose curves end earlier
            self._curves = state_dict["curves"]
            self._losses = torch.tensor(state_dict["train_loss"])

    def on_train_batch_end(self, trainer: L.Trainer, _: Any, outputs: Any, *args: Any) -> None:
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else None
        if loss is not None:
            loss = loss.float() * trainer.accumulate_grad_batches  # Lightning has divided the loss by this number
            loss_and_one = torch.stack([loss, torch.ones_like(loss)])
            self._losses = self._losses.to(loss.device) + loss_and_one.where(loss.isfinite(), 0)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._draw_images(trainer, pl_module, "val")
        elif trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._add_points(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._draw_images(trainer, pl_module, "test")

    def _add_points(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add a point to each curve: the metrics of a validation, and the training loss since the last one."""
        keys = {"val/loss", *monitored_metrics(trainer, pl_module)}
        values = {key: float(value) for key, value in trainer.callback_metrics.items() if key in keys}
        loss_sum, loss_count = self._losses.tolist()
        if loss_count:
            values["train/loss"] = loss_sum / loss_count
        values |= {key: v for key, v in self.overfitting.figures(-1).items() if "/train_" in key}
        self._losses = torch.zeros(2)
        for key, value in values.items():
            curve = self._curves.setdefault(key, [])
            curve.append((trainer.global_step, value))
            if len(curve) > MAX_POINTS:
                del curve[1:-1:2]

    def _draw_images(self, trainer: L.Trainer, pl_module: L.LightningModule, split: str) -> None:
        """Draw the confusion matrix, the worst images and generated images.

        The model must be in evaluation mode.
        """
        task, data = as_task(pl_module), data_module(trainer)
        if not (trainer.is_global_zero and has_whole_net(trainer) and isinstance(data, ImageDataModule)):
            return
        try:
            measured = task.measured
            for chart in measured.charts().values() if measured else ():
                self._pictures[chart.title] = encode(draw_chart(chart))
            for name, picture in sample_pictures(task, data, NUM_WORST, split).items():
                self._pictures[f"{name.capitalize()} images"] = encode(picture, photograph=True)
        except Exception as error:  # a task of any author may raise any exception
            rank_zero_warn(f"report.html shows no images ({type(error).__name__}: {one_line(error)})")

    def write(
        self, folder: Path, metrics: dict[str, float], figures: dict[str, float], conclusion: str, notes: Sequence[str]
    ) -> None:
        """Write `folder/report.html`.

        Args:
            folder: the run's folder.
            metrics, figures, notes: see `kit.dashboard.report.report`.
            conclusion: the verdict and suggestions, see `Overfitting.conclusion`.
        """
        config = folder / "config.yaml"
        by_class: dict[str, dict[str, float]] = {}  # by the name of the class, then by a key such as `test/accuracy`
        for key, value in metrics.items():
            if key.count("/") > 1:
                split, metric, name = key.split("/", 2)
                by_class.setdefault(name, {})[f"{split}/{metric}"] = value
        page = PAGES.get_template("dashboard/report_page.html").render(
            title=f"Run {folder.parent.name}/{folder.name}",
            notes=[", ".join(figure_texts(figures)), *notes],
            conclusion=conclusion,
            overall={key: value for key, value in metrics.items() if key.count("/") < 2},
            by_class=by_class,
            class_keys=list(dict.fromkeys(key for values in by_class.values() for key in values)),
            charts=self._charts(),
            width=WIDTH,
            height=HEIGHT,
            pictures_by_title=self._pictures,
            config=config.read_text(encoding="utf-8") if config.is_file() else "",
            **(faults_values(self.survey) if self.survey else {}),
        )
        write_text(folder / "report.html", page)

    def _charts(self) -> list[dict[str, Any]]:
        """Return a chart for each metric, with its curves of training and validation.

        A curve needs two finite values.
        """
        by_metric: dict[str, dict[str, Curve]] = {}
        for key, curve in sorted(self._curves.items()):
            finite = [(step, value) for step, value in curve if math.isfinite(value)]
            if len(finite) > 1:
                by_metric.setdefault(key.rpartition("/")[2].removeprefix("train_"), {})[key] = finite
        return [chart(curves) for curves in by_metric.values()]


def chart(curves: Mapping[str, Curve]) -> dict[str, Any]:
    """Return a chart for the template: the ranges of both axes and, of each curve, its key, last value and SVG points.

    All values must be finite.
    """
    steps, values = zip(*(point for curve in curves.values() for point in curve), strict=True)
    x_scale = WIDTH / ((max(steps) - min(steps)) or 1)
    y_scale = HEIGHT / ((max(values) - min(values)) or 1)
    lines = []
    for key, curve in curves.items():
        points = (f"{(x - min(steps)) * x_scale:.1f},{(max(values) - y) * y_scale:.1f}" for x, y in curve)
        lines.append((key, curve[-1][1], " ".join(points)))
    return {"x_min": min(steps), "x_max": max(steps), "y_min": min(values), "y_max": max(values), "curves": lines}
