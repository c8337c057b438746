"""What is seen of a run: callbacks that know no task."""

from kit.dashboard.dashboard import Dashboard
from kit.dashboard.hyperparameters import Hyperparameters
from kit.dashboard.progress import Bar, Lines
from kit.dashboard.report_page import ReportPage
from kit.dashboard.results import report, require_measured, show_report
from kit.dashboard.speed import Speed
from kit.dashboard.tensorboard import TensorBoard

__all__ = [
    "Bar",
    "Dashboard",
    "Hyperparameters",
    "Lines",
    "ReportPage",
    "Speed",
    "TensorBoard",
    "report",
    "require_measured",
    "show_report",
]
