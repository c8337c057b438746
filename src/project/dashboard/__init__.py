"""What is seen of a run: callbacks that know no task."""

from project.dashboard.dashboard import Dashboard
from project.dashboard.hyperparameters import Hyperparameters
from project.dashboard.progress import Bar, Lines
from project.dashboard.results import report, require_measured, show_report
from project.dashboard.speed import Speed
from project.dashboard.tensorboard import TensorBoard

__all__ = [
    "Bar",
    "Dashboard",
    "Hyperparameters",
    "Lines",
    "Speed",
    "TensorBoard",
    "report",
    "require_measured",
    "show_report",
]
