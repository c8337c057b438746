"""Compute the metrics of a split.

A task creates an `Evaluation` for each validation, each test and each pass over training images. The evaluation gets
the outputs of every batch, gathers them from all processes, and computes results for the report, the dashboard and
the verdict, which says whether the model overfits.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor

from kit.charts import Chart
from kit.ground._torch import tree_map_only

T = TypeVar("T")
NUM_SHOWN = 10  # a metric is shown for this many classes with the lowest values, and for as many with the highest


class Evaluation(ABC):
    """Store an entry of a few numbers for each sample of a split, and compute all metrics from the entries.

    A subclass defines `entries` and `compute`. A verdict also needs `score_name` and `score_terms`. The other methods
    have defaults.

    Args:
        class_names: the names of the classes.

    Attributes:
        score_name: the metric for the verdict, from 0 to 1 (higher is better), or None for no verdict.
        why_unmeasured: why `compute` returns no value for the task's `monitor`, as the beginning of an error message.
    """

    score_name: str | None = None
    why_unmeasured = "no validation image can be measured"

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = list(class_names)
        self._batches: list[tuple[Tensor, Any]] = []
        self._results: dict[str, Any] = {}  # method name to result, see `once`

    def update(self, keys: Tensor, outputs: Any, targets: Any) -> None:
        """Add a batch. If a sample was added before, its new entry replaces the old one.

        Args:
            keys: Long[B], the indices of the samples in the split.
            outputs: the outputs that the task's `evaluate` returned.
            targets: the targets of the batch.
        """
        with torch.no_grad():
            self._batches.append((keys, self.entries(outputs, targets)))
        self._results.clear()

    @abstractmethod
    def entries(self, outputs: Any, targets: Any) -> Tensor | list[Any]:
        """Return an entry for each sample: the rows of a tensor, or the items of a list."""

    def gather(self) -> None:
        """Share the entries among all processes, so that each has all of them. Every process must call this."""
        self._copy_to_host()
        if torch.distributed.is_initialized():
            gathered: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(gathered, self._batches)
            self._batches = [batch for batches in gathered for batch in batches]
            self._results.clear()

    @property
    def keys(self) -> Tensor:
        """The indices of the samples that were added, Long[N], in ascending order, on the CPU."""
        return self.once(self._collect)[0]

    @property
    def rows(self) -> Any:
        """The entries in the order of `keys`, on the CPU: a tensor of N rows, or a list of N items."""
        return self.once(self._collect)[1]

    def once(self, method: Callable[[], T]) -> T:
        """Return the result of a method without arguments, and cache it until samples are added."""
        name = method.__name__
        if name not in self._results:
            self._results[name] = method()
        return self._results[name]

    def _copy_to_host(self) -> None:
        self._batches = tree_map_only(Tensor, Tensor.cpu, self._batches)

    def _collect(self) -> tuple[Tensor, Any]:
        self._copy_to_host()
        keys = torch.cat([torch.empty(0, dtype=torch.long), *(keys for keys, _ in self._batches)])
        last_positions = {key: position for position, key in enumerate(keys.tolist())}
        positions = [last_positions[key] for key in sorted(last_positions)]
        entries = [entries for _, entries in self._batches]
        if entries and isinstance(entries[0], Tensor):
            return keys[positions], torch.cat(entries)[positions]
        flat = [entry for batch in entries for entry in batch]
        return keys[positions], [flat[position] for position in positions]

    def __len__(self) -> int:
        return len(self.keys)

    @abstractmethod
    def compute(self, by_class: bool = False) -> dict[str, float]:
        """Return the metrics by log key without the split, such as `{"loss": 0.3, "accuracy": 0.9}`.

        A metric without a value, for example because the split has no labels, is left out.

        Args:
            by_class: whether to add the metrics of each class, such as `accuracy/NAME`.
        """

    def score(self) -> float:
        """Return the metric that `score_name` names, or NaN if it has no value."""
        return self.compute().get(self.score_name or "", float("nan"))

    def score_terms(self) -> Tensor:
        """Return the contribution of each sample to the score, Float[N 2 K]: K numerators and K denominators.

        The score is the mean of K ratios: the summed numerators divided by the summed denominators. For accuracy, K is
        1, a numerator is 1 if the sample is right (else 0), and a denominator is 1. For mean IoU, K is the number of
        classes, a numerator is an intersection, and a denominator is a union.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define score_terms()")

    def badness(self) -> tuple[str, Tensor] | None:
        """Return the name of a measure and its value for each sample, Float[N] in the order of `keys`; higher is worse.

        The dashboard shows the worst samples. Before `gather`, the values are for this process's samples only.
        """
        return None

    def class_counts(self) -> tuple[str, Tensor] | None:
        """Return a noun for the counted objects, such as "images", and their number in each class, Long[K].

        Return None if the numbers are unknown.
        """
        return None

    def charts(self) -> dict[str, Chart]:
        """Return charts of the split, such as a confusion matrix, by their names in TensorBoard and `pictures/`."""
        return {}


def worst_and_best(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics without the classes whose values are neither low nor high. The order stays the same.

    For each metric, the classes with the `NUM_SHOWN` lowest and with the `NUM_SHOWN` highest values stay.

    Args:
        metrics: log key to value. `SPLIT/METRIC/CLASS` is a metric of one class.
    """
    by_metric: dict[str, list[str]] = {}
    for key in metrics:
        if key.count("/") > 1:
            by_metric.setdefault("/".join(key.split("/", 2)[:2]), []).append(key)
    orders = [sorted(keys, key=lambda key: float(metrics[key])) for keys in by_metric.values()]
    hidden = {key for order in orders for key in order[NUM_SHOWN:-NUM_SHOWN]}
    return {key: value for key, value in metrics.items() if key not in hidden}


class Means(Evaluation):
    """Average J numbers over the samples.

    The task's `evaluate` returns these numbers, Float[B J].

    Args:
        names: the J log keys.
        class_names: the names of the classes.
    """

    def __init__(self, names: Sequence[str], class_names: Sequence[str] = ()) -> None:
        super().__init__(class_names)
        self.names = list(names)

    def entries(self, outputs: Tensor, targets: Any) -> Tensor:
        return outputs.float()

    def compute(self, by_class: bool = False) -> dict[str, float]:
        return dict(zip(self.names, self.rows.double().mean(0).tolist(), strict=True)) if len(self) else {}
