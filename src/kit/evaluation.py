"""Compute the metrics of a split, in one object that the report, the verdict and the dashboard read.

A task creates an `Evaluation` for each validation, each test and each measurement of training images. The evaluation
gets the outputs of every batch and gathers them from all processes. It then returns the metrics, what each sample
contributes to the score, how bad each sample is, and what the dashboard shows of the classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor

from kit.ground._torch import tree_map_only

T = TypeVar("T")
Details = dict[str, Any]


class Evaluation(ABC):
    """Keep an entry of a few numbers for each sample of a split, and compute all metrics from the entries.

    A subclass defines `entries` and `compute`. For a verdict it also defines `score_name` and `shares`. The other
    methods have defaults.

    Args:
        class_names: the names of the classes.

    Attributes:
        score_name: the metric of the verdict, from 0 to 1, higher is better; None for no verdict.
        unmeasured: why `compute` may return no value for the task's `monitor`, for an error message.
    """

    score_name: str | None = None
    unmeasured = "no validation image can be measured"

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = list(class_names)
        self._batches: list[tuple[Tensor, Any]] = []
        self._results: dict[str, Any] = {}  # of `once`

    def update(self, keys: Tensor, outputs: Any, targets: Any) -> None:
        """Add a batch. If a sample was added before, its new entry replaces the old one.

        Args:
            keys: Long[B], the indices of the samples in the split.
            outputs: what `evaluate` of the task returned.
            targets: the targets of the batch.
        """
        with torch.no_grad():
            self._batches.append((keys, self.entries(outputs, targets)))
        self._results.clear()

    @abstractmethod
    def entries(self, outputs: Any, targets: Any) -> Tensor | list[Any]:
        """Return an entry for each sample: the rows of a tensor, or a list of items with small tensors."""

    def gather(self) -> None:
        """Collect the entries of all processes. Every process must call this, and then has all entries."""
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
        """Return the result of a method without arguments, and keep it until samples are added."""
        name = method.__name__
        if name not in self._results:
            self._results[name] = method()
        return self._results[name]

    def _copy_to_host(self) -> None:
        self._batches = tree_map_only(Tensor, Tensor.cpu, self._batches)

    def _collect(self) -> tuple[Tensor, Any]:
        self._copy_to_host()
        keys = torch.cat([torch.empty(0, dtype=torch.long), *(keys for keys, _ in self._batches)])
        last = {key: position for position, key in enumerate(keys.tolist())}
        positions = [last[key] for key in sorted(last)]
        entries = [entries for _, entries in self._batches]
        if entries and isinstance(entries[0], Tensor):
            return keys[positions], torch.cat(entries)[positions]
        flat = [entry for batch in entries for entry in batch]
        return keys[positions], [flat[position] for position in positions]

    def __len__(self) -> int:
        return len(self.keys)

    @abstractmethod
    def compute(self, by_class: bool = False) -> dict[str, float]:
        """Return the metrics by log key without the split: `{"loss": 0.3, "accuracy": 0.9}`.

        A metric that cannot be measured is left out.

        Args:
            by_class: add the metrics of each class, as `accuracy/NAME`.
        """

    def score(self) -> float:
        """Return the metric that `score_name` names; NaN if there is nothing to measure."""
        return self.compute().get(self.score_name or "", float("nan"))

    def shares(self) -> Tensor:
        """Return what each sample adds to the score, Float[N 2 K]: what is right, and what there is, in K parts.

        The score is the mean over K of the sum of the first by the sum of the second. For accuracy K is 1, and they are
        0 or 1, and 1. For mean IoU K is the number of classes, and they are the intersection and the union.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define shares()")

    def badness(self) -> tuple[str, Tensor] | None:
        """Return how bad each sample is: the name of the measure, and Float[N] in the order of `keys`, higher is worse.

        This may be called before `gather`, for the samples of this process.
        """
        return None

    def details(self) -> Details:
        """Return what the dashboard shows of the classes: a dict with any of these entries.

        confusion: Long[K K], with a row for each annotated class of `class_names`.
        by_class: `METRIC/CLASS` to a fraction.
        precision_recall: class name to `curve` and `positives`, see `TensorBoard.log_precision_recall`.
        """
        return {}


class Means(Evaluation):
    """The mean of each of J numbers that every sample has.

    `outputs` are these numbers, Float[B J].

    Args:
        names: the names of the J numbers.
        class_names: the names of the classes.
    """

    def __init__(self, names: Sequence[str], class_names: Sequence[str] = ()) -> None:
        super().__init__(class_names)
        self.names = list(names)

    def entries(self, outputs: Tensor, targets: Any) -> Tensor:
        return outputs.float()

    def compute(self, by_class: bool = False) -> dict[str, float]:
        return dict(zip(self.names, self.rows.double().mean(0).tolist(), strict=True)) if len(self) else {}
