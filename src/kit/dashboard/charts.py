"""Draw charts with matplotlib, at a size at which TensorBoard's thumbnails are legible."""

from collections.abc import Mapping
from functools import singledispatch
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kit.charts import Bars, Chart, Curves, Density, Matrix
from kit.ground.terminal import escape

WIDTH, HEIGHT, DPI = 4.2, 3.4, 170  # inches, inches, and pixels per inch: 714 pixels wide, with letters of 20 pixels
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "text.parse_math": False,  # names of classes may have a dollar sign
}
MAX_LINES = 10  # with more lines, those other than the main one are grey and have no name
MAX_BARS = 20  # with more bars, those in the middle are left out
MAX_CLASSES = 60  # with more classes, the most confused pairs are drawn instead of the matrix
MAX_NUMBERED = 12  # a matrix of more classes has no counts
MAX_NAME = 22  # longer names are cut off


def draw_chart(chart: Chart) -> Tensor:
    """Return a picture of a chart, uint8 [3 H W]."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure((WIDTH, HEIGHT), dpi=DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots()
        _draw(chart, axes)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


@singledispatch
def _draw(chart: Chart, axes) -> None:
    raise NotImplementedError(f"no drawing of a {type(chart).__name__}")


@_draw.register
def _(chart: Curves, axes) -> None:
    many = len(chart.curves) > MAX_LINES
    for name, (x_values, y_values) in sorted(chart.curves.items(), key=lambda item: item[0] == chart.main):
        is_main = name == chart.main
        look = {"color": "black", "linewidth": 2.2} if is_main else {"color": "0.75"} if many else {}
        axes.plot(x_values.numpy(), y_values.numpy(), label=None if many and not is_main else _name(name), **look)
    if chart.diagonal:
        axes.plot([0, 1], [0, 1], "--", color="0.5", linewidth=1)
    if chart.point:
        x, y, text = chart.point
        axes.plot([x], [y], "o", color="crimson")
        axes.annotate(text, (x, y), xytext=(4, 4), textcoords="offset points", color="crimson")
    if chart.x_range:
        axes.set_xlim(*chart.x_range)
    if chart.y_range:
        axes.set_ylim(*chart.y_range)
    axes.set(title=chart.title, xlabel=chart.x_label, ylabel=chart.y_label)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()


@_draw.register
def _(chart: Matrix, axes) -> None:
    if len(chart.names) > MAX_CLASSES:
        _draw(confused_pairs(chart), axes)
        return
    shares = chart.counts.double() / chart.counts.sum(1, keepdim=True).clamp(min=1)
    axes.imshow(shares.sqrt().numpy(), cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
    if len(chart.names) <= MAX_NUMBERED:
        for (row, column), count in np.ndenumerate(chart.counts.numpy()):
            if count:
                share = float(shares[row, column])
                colour = "white" if share > 0.5 else "black"
                axes.text(column, row, f"{count:,}\n{share:.0%}", ha="center", va="center", size=6, color=colour)
    size = min(8, 220 / len(chart.names))
    axes.set_xticks(range(len(chart.names)), [_name(name) for name in chart.names], rotation=90, size=size)
    axes.set_yticks(range(len(chart.names)), [_name(name) for name in chart.names], size=size)
    axes.set(title=chart.title, xlabel="predicted", ylabel="annotated")


@_draw.register
def _(chart: Bars, axes) -> None:
    values = _ends(chart.values)
    names, lengths, size = list(values), list(values.values()), min(8, 140 / max(1, len(values)))
    bars = axes.barh(range(len(names)), lengths, color="steelblue")
    texts = [chart.texts.get(name, f"{value:,.3g}") for name, value in values.items()]
    axes.bar_label(bars, texts, padding=3, size=size)
    axes.set_yticks(range(len(names)), [_name(name) for name in names], size=size)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set(title=chart.title, xlabel=chart.value_label)


@_draw.register
def _(chart: Density, axes) -> None:
    bins = [np.linspace(*ends, 41) for ends in (chart.x_range, chart.y_range)]
    axes.hist2d(chart.x.numpy(), chart.y.numpy(), bins=bins, cmap="Blues")
    if chart.image_axes:
        axes.invert_yaxis()
    axes.set(title=chart.title, xlabel=chart.x_label, ylabel=chart.y_label)


def confused_pairs(chart: Matrix) -> Bars:
    """Return the most confused pairs of classes, those with the highest counts first."""
    counts = chart.counts.clone().fill_diagonal_(0)
    values, texts = {}, {}
    for count, index in zip(*(part.tolist() for part in counts.flatten().topk(MAX_BARS)), strict=True):
        row, column = divmod(index, len(chart.names))
        if count:
            name = f"{shorten(chart.names[row], 12)} as {shorten(chart.names[column], 12)}"
            values[name] = count
            texts[name] = f"{count:,} ({count / int(chart.counts[row].sum()):.0%})"
    return Bars(f"{chart.title}: the most confused pairs", chart.unit, values, texts)


def _ends(values: Mapping[str, float]) -> dict[str, float]:
    """Return the first and the last bars, if there are more than `MAX_BARS`."""
    items = list(values.items())
    return dict(items if len(items) <= MAX_BARS else items[: MAX_BARS // 2] + items[-MAX_BARS // 2 :])


def _name(name: str) -> str:
    name = escape(name)
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
