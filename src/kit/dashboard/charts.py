"""Draw charts with matplotlib, at a size at which TensorBoard's thumbnails are legible."""

from collections.abc import Callable
from textwrap import fill
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kit.charts import Bars, Chart, Curves, Density, Matrix
from kit.ground.drawing import drawable

WIDTH, HEIGHT, DPI = 4.2, 3.4, 170  # inches, and pixels per inch: a chart is 714 pixels wide, its letters 24 high
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # matplotlib ships this font, and `drawable` knows its characters
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 9,
    "legend.framealpha": 0.7,
    "text.usetex": False,
    "text.parse_math": False,  # names of classes may have a dollar sign
}
# The colours of lines, which colour-blind people can tell apart (Okabe and Ito, 2008).
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"]
DASHES = ["-", "--"]
BLUE = COLOURS[0]
MAX_LINES = len(COLOURS) * len(DASHES)  # the largest number of lines that all have different styles
MAX_MARKED = 20  # a line with more points has no markers
MAX_BARS = 20  # with more bars, those in the middle are left out
MAX_CLASSES = 60  # with more classes, the most confused pairs are drawn instead of the matrix
MAX_NUMBERED = 12  # a matrix of more classes has no counts
MAX_NAME = 22  # the largest number of characters in a name; a longer name is shown without its middle
MAX_BAR_NAME = 30  # the same for the name of a bar
MAX_TITLE = 52  # the largest number of characters in a line of a title


def draw_chart(chart: Chart) -> Tensor:
    """Return a picture of a chart, uint8 [3 H W]."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if isinstance(chart, Matrix) and len(chart.names) > MAX_CLASSES:
        chart = confused_pairs(chart)
    with mpl.rc_context(STYLE):
        figure = Figure((WIDTH, HEIGHT), dpi=DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        figure.suptitle(fill(drawable(chart.title), MAX_TITLE), size=10)
        draw = next(draw for kind, draw in DRAWING.items() if isinstance(chart, kind))
        draw(chart, figure.subplots())
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def _draw_curves(chart: Curves, axes: Any) -> None:
    curves = sorted(chart.curves.items(), key=lambda item: item[0] == chart.main)
    # An empty line also takes a style, so that a run has the same style in all charts of a comparison.
    styles = [i % MAX_LINES for i, (name, (x, _)) in enumerate(curves) if len(x) and name != chart.main]
    # If two lines would look the same, all lines but the main one are grey, and only the main one is in the legend.
    are_grey = len(set(styles)) < len(styles)
    axes.set_prop_cycle(color=COLOURS * len(DASHES), linestyle=[dash for dash in DASHES for _ in COLOURS])
    legend_lines: list[Any] = []
    for name, (x_values, y_values) in curves:
        style: dict[str, Any] = {"marker": "o", "markersize": 3} if len(x_values) <= MAX_MARKED else {}
        if name == chart.main:
            style |= {"color": "black", "linestyle": "-", "linewidth": 2.2}
        elif are_grey:
            style |= {"color": "0.75", "linestyle": "-", "linewidth": 1}
        lines = axes.plot(x_values.numpy(), y_values.numpy(), label=_shortened(name), **style)
        legend_lines += lines if len(x_values) else []
    if are_grey:
        legend_lines = [line for line in legend_lines if line.get_color() == "black"]
    if chart.diagonal:
        axes.plot([0, 1], [0, 1], "--", color="0.5", linewidth=1)
    if chart.point:
        x, y, text = chart.point
        # A long text needs room, so it is on the side that is farther from the border.
        is_left = chart.x_range is not None and x > sum(chart.x_range) / 2
        axes.plot([x], [y], "o", color="black", zorder=3)
        box = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1}
        alignment = "right" if is_left else "left"
        offset = (-5 if is_left else 5, 5)
        axes.annotate(drawable(text), (x, y), offset, textcoords="offset points", ha=alignment, bbox=box)
    if chart.x_range:
        axes.set_xlim(*chart.x_range)
    if chart.y_range:
        axes.set_ylim(*chart.y_range)
    axes.set(xlabel=drawable(chart.x_label), ylabel=drawable(chart.y_label))
    axes.grid(alpha=0.3)
    if legend_lines:
        axes.legend(handles=legend_lines[::-1] if chart.main else legend_lines)


def _draw_matrix(chart: Matrix, axes: Any) -> None:
    num_classes, names = len(chart.names), [_shortened(name) for name in chart.names]
    shares = (chart.counts.double() / chart.counts.sum(1, keepdim=True).clamp(min=1)).numpy()
    is_right = np.eye(num_classes, dtype=bool)
    for hidden, colours in ((~is_right, "Blues"), (is_right, "Oranges")):  # right predictions, then wrong ones
        axes.imshow(np.ma.array(shares**0.5, mask=hidden), cmap=colours, vmin=0, vmax=1.15, aspect="auto")
    if num_classes <= MAX_NUMBERED:
        size = min(10, 76 / num_classes)
        for (row, column), count in np.ndenumerate(chart.counts.numpy()):
            if count:
                share = shares[row, column]  # of all counts of the annotated class
                text = f"{_short_count(count)}\n{share:.0%}" if share >= 0.005 else _short_count(count)
                style = {"color": "white" if share > 0.35 else "black", "size": size, "linespacing": 0.95}
                axes.text(column, row, text, ha="center", va="center", in_layout=False, **style)
    size, is_wide = min(9, 220 / num_classes), max(map(len, names)) * num_classes > 45
    axes.set_xticks(range(num_classes), names, rotation=90 if is_wide else 0, size=size)
    axes.set_yticks(range(num_classes), names, size=size)
    axes.tick_params(length=0)
    axes.set(xlabel="predicted", ylabel="annotated")


def _draw_bars(chart: Bars, axes: Any) -> None:
    items, left_out = list(chart.values.items()), max(0, len(chart.values) - MAX_BARS)
    values = dict(items[: MAX_BARS // 2] + items[-MAX_BARS // 2 :] if left_out else items)
    names, size = [_shortened(name, MAX_BAR_NAME) for name in values], min(9, 160 / max(1, len(values)))
    bars = axes.barh(range(len(names)), list(values.values()), color=BLUE)
    are_whole = not any(value % 1 for value in values.values())
    numbers = {name: f"{value:,.0f}" if are_whole else f"{value:.3f}" for name, value in values.items()}
    texts = [drawable(chart.texts.get(name, number)) for name, number in numbers.items()]
    axes.bar_label(bars, texts, padding=3, size=size)
    axes.set_yticks(range(len(names)), names, size=size)
    axes.invert_yaxis()
    axes.margins(x=0.02 + 0.014 * max(map(len, texts), default=0), y=0.01)
    label = drawable(chart.value_label)
    if left_out:
        axes.axhline(MAX_BARS // 2 - 0.5, color="0.5", linestyle=":")
        label += f" (without {left_out:,} bars in the middle)"
    axes.set(xlabel=label)


def _draw_density(chart: Density, axes: Any) -> None:
    bins = [np.linspace(*ends, 41) for ends in (chart.x_range, chart.y_range)]
    counts, *_ = np.histogram2d(chart.x.numpy(), chart.y.numpy(), bins=bins)
    axes.pcolormesh(*bins, counts.T**0.5, cmap="Blues")  # the square root shows places with a single point, too
    if chart.image_axes:
        axes.invert_yaxis()
    axes.set(xlabel=drawable(chart.x_label), ylabel=drawable(chart.y_label))


DRAWING: dict[type, Callable[[Any, Any], None]] = {
    Curves: _draw_curves,
    Matrix: _draw_matrix,
    Bars: _draw_bars,
    Density: _draw_density,
}


def confused_pairs(chart: Matrix) -> Bars:
    """Return a bar for each of the most confused pairs of classes, the highest count first."""
    counts = chart.counts.clone().fill_diagonal_(0)
    values, texts = {}, {}
    for count, index in zip(*(part.tolist() for part in counts.flatten().topk(MAX_BARS)), strict=True):
        row, column = divmod(index, len(chart.names))
        if count:
            name = f"{_shortened(chart.names[row], 13)} as {_shortened(chart.names[column], 13)}"
            while name in values:  # long names may be equal after they are cut
                name += " "
            values[name] = count
            texts[name] = f"{_short_count(count)} ({count / int(chart.counts[row].sum()):.0%})"
    title = f"{chart.title}: the most frequent confusions of {int(chart.counts.sum()):,} {chart.unit}"
    return Bars(title, chart.unit, values, texts)


def _short_count(count: int) -> str:
    """Return a count in at most five characters, such as `12.3k`."""
    for limit, scale, unit in ((10_000, 1, ""), (999_500, 1e3, "k"), (999_500_000, 1e6, "M")):  # 999,500 is `1M`
        if count < limit:
            return f"{count / scale:.3g}{unit}" if unit else f"{count}"
    return f"{count / 1e9:.3g}G"


def _shortened(name: str, length: int = MAX_NAME) -> str:
    """Return a name that the font can draw, without its middle if it has more than `length` characters."""
    name = drawable(name)
    name = name if len(name) <= length else f"{name[: length // 2 - 1]}…{name[-length // 2 :]}"
    return f" {name}" if name.startswith("_") else name  # matplotlib hides names that start with an underscore
