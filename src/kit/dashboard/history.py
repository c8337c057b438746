"""Keep the curves and the verdict of a run in the file `history.json`, and read its settings from `config.yaml`."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kit.charts import Chart, Curves
from kit.ground.errors import BrokenFiles, UserError, one_line
from kit.ground.files import read_json, write_text
from kit.ground.yaml_files import leaves

MAX_POINTS = 500  # if a curve has more points, every second point is removed, but not the first and the last
Curve = list[tuple[int, float]]  # the step and the value at each validation


class History(NamedTuple):
    """The part of a run's page that the verb `report` cannot measure again.

    conclusion: the verdict and suggestions, see `Overfitting.conclusion`.
    modes: whether the lowest or the highest value of a monitored metric is the best, `min` or `max` by log key.
    curves: the curves by log key.
    """

    conclusion: str
    modes: Mapping[str, str]
    curves: Mapping[str, Curve]

    @classmethod
    def read(cls, folder: Path) -> "History":
        """Read `folder/history.json`. If there is no such file, return an empty history.

        Raises:
            UserError: the file is damaged.
        """
        file = folder / "history.json"
        if not file.is_file():
            return cls("", {}, {})
        try:
            content = read_json(file)
            conclusion, modes, curves = (content[key] for key in cls._fields)
            points = {
                key: [(int(step), math.nan if value is None else float(value)) for step, value in curve]
                for key, curve in curves.items()
            }
            return cls(str(conclusion), {key: str(mode) for key, mode in modes.items()}, points)
        except (BrokenFiles, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UserError(f"{file} is damaged ({one_line(error)}); runs can be compared without it") from None

    def write(self, folder: Path) -> None:
        """Write `folder/history.json`, with null for a value that is not finite."""
        curves = {
            key: [(step, value if math.isfinite(value) else None) for step, value in curve]
            for key, curve in self.curves.items()
        }
        content = json.dumps({**self._asdict(), "curves": curves}, allow_nan=False)
        write_text(folder / "history.json", content + "\n")


def add_point(curve: Curve, step: int, value: float) -> None:
    """Add a point to a curve, and remove every second point if there are more than `MAX_POINTS`."""
    curve.append((step, value))
    if len(curve) > MAX_POINTS:
        del curve[1:-1:2]


def training_and_validation(curves: Mapping[str, Curve]) -> dict[str, Chart]:
    """Return a chart for each metric by its name, such as `loss`, with a line for training and one for validation.

    Args:
        curves: the curves by log key. A line needs two finite values.
    """
    by_metric: dict[str, dict[str, Curve]] = {}
    for key, curve in curves.items():
        name = key.partition("/")[2] or key
        line = "training" if key.startswith("train/") or name.startswith("train_") else "validation"
        by_metric.setdefault(name.removeprefix("train_"), {"training": [], "validation": []})[line] = curve
    charts = {metric: line_chart(metric, lines) for metric, lines in by_metric.items()}
    return {metric: chart for metric, chart in charts.items() if chart}


def line_chart(title: str, curves: Mapping[str, Curve]) -> Curves | None:
    """Return a chart of values over steps, or None if no curve has two finite values.

    Args:
        curves: the curves by the names of their lines. A line with fewer than two finite values is empty: it is not
            drawn, but the other lines have the same colours in all charts.
    """
    lines = {}
    for name, curve in curves.items():
        finite = [point for point in curve if math.isfinite(point[1])]
        steps, values = torch.tensor(finite if len(finite) > 1 else [], dtype=torch.double).view(-1, 2).unbind(1)
        lines[name] = (steps, values)
    return Curves(title, "step", "", lines) if any(len(steps) for steps, _ in lines.values()) else None


def read_settings(config: Path) -> dict[str, Any]:
    """Return the value of each key of a run's `config.yaml`: a number, a boolean or a text; "" for null."""
    values: dict[str, list[Any]] = {}
    for key, value, _ in leaves(config.read_text(encoding="utf-8")):
        values.setdefault(key, []).append(value)
    settings: dict[str, Any] = {key: ", ".join(map(setting_text, items)) for key, items in values.items()}
    numbers = {key: items[0] for key, items in values.items() if len(items) == 1 and isinstance(items[0], (int, float))}
    return settings | numbers


def setting_text(value: Any) -> str:
    """Return the text of a value in a config; "" for null."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)
