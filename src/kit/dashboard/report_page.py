"""Write `report.html` into the run's folder. The page needs no other file.

The page has the verdict, the metrics, their curves, charts of the classes, the worst images, the faults of the data and
the config.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from kit.checks.page import faults_html
from kit.checks.survey import Survey
from kit.dashboard.charts import class_charts
from kit.dashboard.results import figure_texts
from kit.dashboard.samples import draw_samples, has_whole_net, worst_samples
from kit.dashboard.tensorboard import encode
from kit.data import ImageDataModule
from kit.ground._lightning import data_module
from kit.ground.errors import one_line
from kit.ground.files import write_text
from kit.ground.html import html_page, image_element
from kit.safeguards import Overfitting
from kit.safeguards.checkpoints import monitored_metrics
from kit.task import as_task

MAX_POINTS = 500  # if a curve has more points, every second point is removed, but not the first and the last
# In pixels: the width and height of a chart, its left margin, and its lower margin, which is also its upper margin.
WIDTH, HEIGHT, LEFT, BOTTOM = 480, 240, 48, 24
COLOURS = ("var(--first)", "var(--second)")  # of a chart's curves, in CSS
PICTURE_WIDTH = 1250  # of the picture of the worst images, in pixels
Curve = list[tuple[int, float]]  # the step and the value at each validation


class ReportPage(L.Callback):
    """Collect curves and images during training and testing, and write the page.

    Checkpoints hold the curves, so the page of a resumed run has them from the start. Drawing leaves the random state
    untouched. If it raises an exception, the callback warns, and the page lacks images.

    Args:
        overfitting: the callback that scores training images.
        samples: the number of worst images to show.

    Attributes:
        survey: the faults of the data, or None if the data were not checked.
    """

    def __init__(self, overfitting: Overfitting, samples: int = 8) -> None:
        self.overfitting, self.samples = overfitting, samples
        self.survey: Survey | None = None
        self._curves: dict[str, Curve] = {}  # by log key
        self._losses = torch.zeros(2)  # the sum and the number of the training losses since the last validation
        self._pictures: dict[str, bytes] = {}  # by title

    def state_dict(self) -> dict[str, Any]:
        return {"curves": {key: [*curve] for key, curve in self._curves.items()}, "train_loss": self._losses.tolist()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not self._curves:  # after training, the best checkpoint is loaded: ignore its curves, which end earlier
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
        """Draw charts of the classes, the worst images and generated images. The model must be in evaluation mode."""
        task, data = as_task(pl_module), data_module(trainer)
        if not (trainer.is_global_zero and has_whole_net(trainer) and isinstance(data, ImageDataModule)):
            return
        try:
            if task.measured:
                for name, chart in class_charts(task.measured.details(), task.measured.class_names).items():
                    title = "confusion matrix" if name == "confusion" else f"{name} of each class"
                    self._pictures[title] = encode(chart)
            can_draw = task.has("predict") and task.has("draw")
            if can_draw and (samples := worst_samples(task, data, self.samples, split)):
                picture = draw_samples(task, samples, PICTURE_WIDTH)
                self._pictures[f"the worst {split} images"] = encode(picture, photograph=True)
            if task.has("draw_generated") and data.preprocessing.size:
                picture = task.draw_generated(data.preprocessing.size)
                self._pictures["generated images"] = encode(picture, photograph=True)
        except Exception as error:  # a task of any author may raise any exception
            rank_zero_warn(f"report.html shows no images ({type(error).__name__}: {one_line(error)})")

    def write(
        self, folder: Path, metrics: dict[str, float], figures: dict[str, float], conclusion: str, notes: Sequence[str]
    ) -> None:
        """Write `folder/report.html`.

        Args:
            folder: the run's folder.
            metrics, figures, notes: see `kit.dashboard.results.report`.
            conclusion: the verdict and suggestions, see `Overfitting.conclusion`.
        """
        by_class = {key: value for key, value in metrics.items() if key.count("/") > 1}
        overall = {key: value for key, value in metrics.items() if key not in by_class}
        parts = [
            f"<p class=soft>{'<br>'.join(map(escape, [', '.join(figure_texts(figures)), *notes]))}</p>",
            f"<p class=verdict>{escape(conclusion)}</p>" if conclusion else "",
            _table(overall),
            f"<details><summary>for each class</summary>{_table(by_class)}</details>" if by_class else "",
            _section("training and validation", f"<div class=charts>{self._charts()}</div>"),
            *(_section(title, image_element(content, "wide")) for title, content in self._pictures.items()),
            _section("faults of the data", faults_html(self.survey) if self.survey else "<p>not checked</p>"),
        ]
        for file in folder.glob("config.yaml"):
            parts.append(_section("config", f"<pre>{escape(file.read_text(encoding='utf-8'))}</pre>"))
        write_text(folder / "report.html", html_page(f"Run {folder.parent.name}/{folder.name}", "".join(parts)))

    def _charts(self) -> str:
        """Return the HTML of a chart for each metric, with its curves of training and validation."""
        by_metric: dict[str, dict[str, Curve]] = {}
        for key, curve in sorted(self._curves.items()):
            by_metric.setdefault(key.rpartition("/")[2].removeprefix("train_"), {})[key] = curve
        charts = [line_chart(curves) for curves in by_metric.values() if max(map(len, curves.values())) > 1]
        return "".join(charts) or "<p>A curve needs at least two validations.</p>"


def line_chart(curves: Mapping[str, Curve]) -> str:
    """Return a chart of up to two curves as an SVG element, or "" if no value is finite."""
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
        name = f"{escape(key)} {curve[-1][1]:.4f}"
        shapes.append(f"<text x='{left + 8 + 200 * index}' y='14' style='fill: {colour}'>{name}</text>")
    return f"<svg width='{WIDTH}' height='{HEIGHT}' role='img'>{''.join(shapes)}</svg>"


def _table(metrics: Mapping[str, float]) -> str:
    rows = (f"<tr><td>{escape(key)}</td><td class=number>{value:.4f}</td></tr>" for key, value in metrics.items())
    return f"<table>{''.join(rows)}</table>"


def _section(title: str, body: str) -> str:
    return f"<section><div class=head><h2>{escape(title[0].upper() + title[1:])}</h2></div>{body}</section>"
