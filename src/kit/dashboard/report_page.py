"""`report.html` in the run's folder: one self-contained page that says how the run went.

It has the verdict, the metrics, the curves of training and validation, charts of the classes, the worst images, the
faults of the data and the config.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from kit.checks.page import faults_html
from kit.checks.survey import Survey
from kit.dashboard.charts import class_charts
from kit.dashboard.results import figure_texts, metric_text
from kit.dashboard.samples import draw_samples, worst_samples
from kit.dashboard.tensorboard import encoded
from kit.data import ImageDataModule
from kit.ground.errors import one_line
from kit.ground.files import replacing
from kit.ground.html import html_page, image_element
from kit.safeguards import Overfitting
from kit.safeguards.checkpoints import monitored_metrics
from kit.task import as_task

MAX_POINTS = 500  # of a curve; beyond that every second one is dropped
WIDTH, HEIGHT, LEFT, BOTTOM = 480, 240, 48, 24  # pixels of a chart and of its margins
COLOURS = ("var(--first)", "var(--second)")
PICTURE_WIDTH = 1250  # pixels of the worst images together
Curve = list[tuple[int, float]]


class ReportPage(L.Callback):
    """Collect what the page shows while the run trains and is tested.

    Checkpoints hold the curves, so that a resumed run shows all of them. The callback draws no random numbers. If it
    cannot draw the images, it warns and ends no run.

    Args:
        overfitting: the callback that measures the training images.
        samples: the number of worst images to show.

    Attributes:
        survey: the faults of the data, if they were checked.
    """

    def __init__(self, overfitting: Overfitting, samples: int = 8) -> None:
        self.overfitting, self.samples = overfitting, samples
        self.survey: Survey | None = None
        self._curves: dict[str, Curve] = {}  # by log key: the step and the value at each validation
        self._loss_sum, self._loss_count = torch.zeros(()), 0  # of the training steps since the last validation
        self._pictures: dict[str, bytes] = {}  # by title

    def state_dict(self) -> dict[str, Any]:
        curves = {key: [list(point) for point in curve] for key, curve in self._curves.items()}
        return {"curves": curves, "train_loss": [float(self._loss_sum), self._loss_count]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not self._curves:  # after training, the best checkpoint is loaded, which has fewer points
            self._curves = {key: [(step, value) for step, value in c] for key, c in state_dict["curves"].items()}
            loss_sum, self._loss_count = state_dict["train_loss"]
            self._loss_sum = torch.tensor(loss_sum)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else None
        if loss is not None:
            loss = loss.float() * trainer.accumulate_grad_batches  # Lightning has divided it
            self._loss_sum = self._loss_sum.to(loss.device) + loss.where(loss.isfinite(), 0)
            self._loss_count += 1

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._draw_images(trainer, pl_module, "val")
        elif trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._add_points(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._draw_images(trainer, pl_module, "test")

    def _add_points(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        keys = {"val/loss", *monitored_metrics(trainer, pl_module)}
        values = {key: float(value) for key, value in trainer.callback_metrics.items() if key in keys}
        if self._loss_count:
            values["train/loss"] = float(self._loss_sum) / self._loss_count
        values |= {key: v for key, v in self.overfitting.figures(-1).items() if "/train_" in key}
        self._loss_sum, self._loss_count = torch.zeros(()), 0
        for key, value in values.items():
            curve = self._curves.setdefault(key, [])
            curve.append((trainer.global_step, value))
            if len(curve) > MAX_POINTS:
                del curve[1:-1:2]

    def _draw_images(self, trainer: L.Trainer, pl_module: L.LightningModule, split: str) -> None:
        """Draw the classes' charts and the worst images, while the model is on its device and in evaluation mode."""
        task, data = as_task(pl_module), getattr(trainer, "datamodule", None)
        is_whole = isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy))
        if not (trainer.is_global_zero and is_whole and isinstance(data, ImageDataModule)):
            return
        try:
            if task.measured:
                charts = class_charts(task.measured.details(), task.measured.class_names)
                for name, chart in charts.items():
                    title = "confusion matrix" if name == "confusion" else f"{name} of each class"
                    self._pictures[title] = encoded(chart)
            if task.has("predict") and task.has("draw"):
                samples = worst_samples(trainer, task, data, self.samples, split)
                if samples:
                    picture = draw_samples(task, samples, PICTURE_WIDTH)
                    self._pictures[f"the worst {split} images"] = encoded(picture, photograph=True)
            if task.has("draw_samples") and data.preprocessing.size:
                picture = task.draw_samples(data.preprocessing.size)
                self._pictures["generated images"] = encoded(picture, photograph=True)
        except Exception as error:  # the task may be anyone's, and memory may run out
            rank_zero_warn(f"report.html shows no images ({type(error).__name__}: {one_line(error)})")

    def write(
        self,
        folder: Path,
        metrics: Mapping[str, float],
        figures: dict[str, float],
        conclusion: str,
        notes: Sequence[str],
    ) -> None:
        """Write `folder/report.html`.

        Args:
            metrics: log key to value.
            figures: see `kit.dashboard.results.report`.
            conclusion: the verdict, in one or two lines.
            notes: lines that readers of the metrics must know.
        """
        by_class = {key: value for key, value in metrics.items() if key.count("/") > 1}
        main = {key: value for key, value in metrics.items() if key not in by_class}
        lines = [", ".join(figure_texts(figures)), *notes]
        parts = [
            f"<p class=soft>{'<br>'.join(map(escape, lines))}</p>",
            f"<p class=verdict>{escape(conclusion)}</p>" if conclusion else "",
            _table(main),
            f"<details><summary>for each class</summary>{_table(by_class)}</details>" if by_class else "",
            _section("training and validation", f"<div class=charts>{self._charts()}</div>"),
            *(_section(title, image_element(content, "wide")) for title, content in self._pictures.items()),
            _section("faults of the data", faults_html(self.survey) if self.survey else "<p>not checked</p>"),
        ]
        config = folder / "config.yaml"
        if config.is_file():
            parts.append(_section("config", f"<pre>{escape(config.read_text())}</pre>"))
        with replacing(folder / "report.html") as part:
            part.write_text(html_page(f"Run {folder.parent.name}/{folder.name}", "".join(parts)), encoding="utf-8")

    def _charts(self) -> str:
        """Return a chart for each metric, with the curves of training and validation."""
        by_metric: dict[str, dict[str, Curve]] = {}
        for key, curve in sorted(self._curves.items()):
            by_metric.setdefault(key.rpartition("/")[2].removeprefix("train_"), {})[key] = curve
        charts = [line_chart(curves) for curves in by_metric.values() if max(map(len, curves.values())) > 1]
        return "".join(charts) or "<p>There are curves from the second validation on.</p>"


def line_chart(curves: Mapping[str, Curve]) -> str:
    """Return an SVG element with a line for each curve, the axes' limits, and the curves' names and last values."""
    points = [(x, y) for curve in curves.values() for x, y in curve if math.isfinite(y)]
    if not points:
        return ""
    (x_min, x_max), (y_min, y_max) = ((min(values), max(values)) for values in zip(*points, strict=True))
    x_scale = (WIDTH - LEFT - 8) / ((x_max - x_min) or 1)
    y_scale = (HEIGHT - 2 * BOTTOM) / ((y_max - y_min) or 1)
    left, floor = LEFT, HEIGHT - BOTTOM
    shapes = [f"<path d='M{left} {BOTTOM}V{floor}H{WIDTH - 8}' fill='none' stroke='var(--line)'/>"]
    for x, y, anchor, text in (
        (left - 6, floor, "end", f"{y_min:.3g}"),
        (left - 6, BOTTOM + 4, "end", f"{y_max:.3g}"),
        (left, HEIGHT - 6, "start", f"step {x_min:,}"),
        (WIDTH - 8, HEIGHT - 6, "end", f"step {x_max:,}"),
    ):
        shapes.append(f"<text x='{x}' y='{y}' text-anchor='{anchor}'>{text}</text>")
    for index, ((key, curve), colour) in enumerate(zip(curves.items(), COLOURS, strict=False)):
        xy = [(left + (x - x_min) * x_scale, floor - (y - y_min) * y_scale) for x, y in curve if math.isfinite(y)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in xy)
        shapes.append(f"<polyline points='{line}' fill='none' stroke='{colour}' stroke-width='1.8'/>")
        shapes += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='2.5' fill='{colour}'/>" for x, y in xy[-1:]]
        name = f"{escape(key)} {metric_text(curve[-1][1])}" if curve else escape(key)
        shapes.append(f"<text x='{left + 8 + 200 * index}' y='14' style='fill: {colour}'>{name}</text>")
    return f"<svg width='{WIDTH}' height='{HEIGHT}' role='img'>{''.join(shapes)}</svg>"


def _table(metrics: Mapping[str, float]) -> str:
    cells = ((escape(key), metric_text(value)) for key, value in metrics.items())
    return f"<table>{''.join(f'<tr><td>{key}</td><td class=number>{text}</td></tr>' for key, text in cells)}</table>"


def _section(title: str, body: str) -> str:
    return f"<section><div class=head><h2>{escape(title[0].upper() + title[1:])}</h2></div>{body}</section>"
