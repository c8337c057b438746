"""The data of charts, which an `Evaluation` or a data module returns. `kit.dashboard.charts` draws them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

MAX_CURVES = 100  # if there are more classes, the precision-recall chart shows only the mean of their curves


@dataclass(frozen=True)
class Curves:
    """Lines in one pair of axes.

    title: the text above the chart.
    x_label, y_label: the texts beside the axes.
    curves: the x and y values of each line, Float[P] both, by its name in the legend.
    main: the name of the line that is drawn thick and last, or None.
    x_range, y_range: the ends of an axis, or None for the range of the values.
    diagonal: whether to draw a dashed line from (0, 0) to (1, 1).
    point: (x, y, text) of a point to mark, or None.
    """

    title: str
    x_label: str
    y_label: str
    curves: Mapping[str, tuple[Tensor, Tensor]]
    main: str | None = None
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    diagonal: bool = False
    point: tuple[float, float, str] | None = None


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix.

    counts: Long[K K], with a row for each annotated class and a column for each predicted one.
    names: the names of the K classes.
    unit: what is counted, such as "images".
    """

    title: str
    counts: Tensor
    names: Sequence[str]
    unit: str


@dataclass(frozen=True)
class Bars:
    """Horizontal bars, each with a name and a text.

    value_label: the text below the axis of the values.
    values: the length of each bar by its name, from top to bottom.
    texts: the text at the end of each bar by its name; by default its length.
    """

    title: str
    value_label: str
    values: Mapping[str, float]
    texts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Density:
    """Colours that show how many points are at each place.

    x, y: the coordinates of the points, Float[N] both.
    x_range, y_range: the ends of the axes.
    image_axes: whether y grows from top to bottom, as in an image.
    """

    title: str
    x_label: str
    y_label: str
    x: Tensor
    y: Tensor
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    image_axes: bool = False


Chart = Curves | Matrix | Bars | Density


def precision_recall(metric: str, recalls: Tensor, classes: Mapping[str, tuple[float, Tensor]]) -> Curves:
    """Return the precision-recall curves of the classes, and their mean. Each name begins with the average precision.

    Args:
        metric: the name of the mean of the average precisions, such as `mAP`.
        recalls: the recalls of all points of the curves, Float[P].
        classes: the average precision, and the precision at each recall, Float[P], by the name of the class.
    """
    averages, precisions = zip(*classes.values(), strict=True)
    mean = sum(averages) / len(averages)
    curves = {f"{average:.2f} {name}": (recalls, values) for name, (average, values) in classes.items()}
    if len(classes) > 1:
        mean_curve = {f"{mean:.2f} all classes": (recalls, torch.stack(precisions).mean(0))}
        curves = mean_curve if len(classes) > MAX_CURVES else curves | mean_curve
    title = f"Precision and recall ({metric} {mean:.3f})"
    return Curves(title, "recall", "precision", curves, [*curves][-1], (0, 1), (0, 1.02))
