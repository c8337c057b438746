"""What a validation says of the classes, in TensorBoard."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from kit.dashboard import charts
from kit.dashboard.tensorboard import TensorBoard


def show_details(board: TensorBoard, details: dict[str, Any], class_names: Sequence[str], step: int) -> int:
    """Log what an evaluation's `details` returned; return how many bytes the pictures take."""
    for name, entry in details.get("precision_recall", {}).items():
        board.log_precision_recall(f"precision_recall/{name}", entry["curve"], entry["positives"], step)
    drawn = class_charts(details, class_names)
    return sum(board.log_picture(f"validation/{name}", chart, step) or 0 for name, chart in drawn.items())


def class_charts(details: dict[str, Any], class_names: Sequence[str]) -> dict[str, Tensor]:
    """Return the charts of what an evaluation's `details` returned, uint8 [3 H W], by their names."""
    pictures = {}
    if "confusion" in details:
        pictures["confusion"] = charts.confusion(details["confusion"], class_names)
    if details.get("by_class"):
        parted = [key.split("/", 1) for key in details["by_class"]]
        values = details["by_class"].values()
        pictures[parted[0][0]] = charts.bars({name: v for (_, name), v in zip(parted, values, strict=True)})
    return pictures
