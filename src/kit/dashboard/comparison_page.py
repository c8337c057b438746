"""Compare runs on an HTML page: their configs, metrics and curves. Its template is `comparison_page.html`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kit.dashboard.charts import draw_chart
from kit.dashboard.history import Curve, History, line_chart, read_settings, setting_text
from kit.dashboard.report import RUN_VALUES, is_of_class
from kit.dashboard.tensorboard import encode
from kit.ground import app
from kit.ground.errors import BrokenFiles, UserError, one_line
from kit.ground.files import read_json
from kit.ground.html import PAGES
from kit.ground.yaml_files import read_yaml

# Log keys of metrics whose highest or lowest value is the best. A run saves the modes of only its monitored metrics.
HIGHER_IS_BETTER = re.compile(
    r"(^|/)(accuracy|knn_accuracy|f1|map|miou|iou|agreement|explained|pixel_accuracy)(_\w+)?($|/)"
)
# `nearest_distance` is left out, since copying images lowers it. Reference values, such as `frechet_distance_noise`,
# are left out, since they depend on no model.
LOWER_IS_BETTER = re.compile(r"loss|(?<!nearest_)distance(/|$)")


class Run(NamedTuple):
    """A run that has ended.

    name: the last two parts of the path of the run's folder, such as `NAME/version_0`.
    config: the value of each key of the run's config, as text.
    results: the metrics and `RUN_VALUES` by key; None for a value that is not finite.
    history: the run's curves, and the modes of the monitored metrics.
    """

    name: str
    config: Mapping[str, str]
    results: Mapping[str, float | None]
    history: History

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """Read a run's `config.yaml`, `results.json` and `history.json`.

        Raises:
            UserError: a file is missing or damaged.
        """
        results_file, config_file = folder / "results.json", folder / "config.yaml"
        if not results_file.is_file():
            again = f"continue it with {app.command('fit')} --resume {folder}"
            raise UserError(f"{folder} has no results.json: the run has not ended; {again}")
        try:
            results = {key: None if value is None else float(value) for key, value in read_json(results_file).items()}
        except (BrokenFiles, AttributeError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{results_file} is damaged ({one_line(error)})") from None
        read_yaml(config_file)  # raises an error if it is damaged
        config = {key: setting_text(value) for key, value in read_settings(config_file).items() if key != "name"}
        return cls("/".join(folder.absolute().parts[-2:]), config, results, History.read(folder))


def comparison_page(runs: Sequence[Run]) -> str:
    """Return a page with the metrics and the curves of runs, and with the values in which their configs differ.

    The best value of each metric is bold.
    """
    short_names = [run.name.partition("/")[0] for run in runs]
    names = short_names if len(set(short_names)) == len(runs) else [run.name for run in runs]
    # The number tells runs apart in a chart, which leaves out the middle of a long name.
    names = [f"{number}: {name}" for number, name in enumerate(names, 1)]
    modes = {key.partition("/")[2] or key: mode for run in runs for key, mode in run.history.modes.items()}
    rows: dict[str, list[tuple[str, bool]]] = {}  # by log key: (text, whether it is the best) for each run
    result_keys = dict.fromkeys(key for run in runs for key in run.results)
    for key in sorted(result_keys, key=lambda key: not key.startswith(("test/", "val/"))):  # metrics first
        values = [run.results.get(key) for run in runs]
        rows[key] = list(zip([_number(key, value) for value in values], _are_best(key, values, modes), strict=True))
    configs = {}
    for key in dict.fromkeys(key for run in runs for key in run.config):
        configs[key] = [(run.config.get(key, ""), False) for run in runs]
    curves: dict[str, dict[str, Curve]] = {}  # by log key, then by the name of the run
    for name, run in zip(names, runs, strict=True):
        for key, curve in run.history.curves.items():
            curves.setdefault(key, {name: [] for name in names})[name] = curve
    keys = sorted(curves, key=lambda key: (not key.startswith("val/"), key))
    charts = [line_chart(key, curves[key]) for key in keys]
    return PAGES.get_template("dashboard/comparison_page.html").render(
        title=f"Comparison of {len(runs)} runs",
        names=names,
        overall={key: cells for key, cells in rows.items() if not is_of_class(key)},
        by_class={key: cells for key, cells in rows.items() if is_of_class(key)},
        charts=[encode(draw_chart(chart)) for chart in charts if chart],
        differences={key: cells for key, cells in configs.items() if len(set(cells)) > 1},
    )


def _are_best(key: str, values: Sequence[float | None], modes: Mapping[str, str]) -> list[bool]:
    """Return whether each value of a metric is the best of at least two values. If the mode is unknown, no value is.

    Args:
        key: the log key of the metric.
        modes: `min` or `max` by the name of a monitored metric, without its split.
    """
    usual_mode = "max" if HIGHER_IS_BETTER.search(key) else "min" if LOWER_IS_BETTER.search(key) else None
    choose = {"min": min, "max": max}.get(modes.get(key.partition("/")[2] or key, usual_mode or ""))
    finite = [value for value in values if value is not None]
    if key in RUN_VALUES or choose is None or len(finite) < 2:
        return [False] * len(values)
    return [value == choose(finite) for value in values]


def _number(key: str, value: float | None) -> str:
    """Return the text of a metric, or of a run's value such as `train_seconds`; "" for a run that does not have it."""
    if value is None:
        return ""
    return f"{value:,.1f}".removesuffix(".0") if key in RUN_VALUES else f"{value:.4f}"
