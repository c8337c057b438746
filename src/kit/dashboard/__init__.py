"""Show a run in TensorBoard and on the terminal, with callbacks that know no task.

`tensorboard` has the logger, and logs a row of TensorBoard's table of runs. `dashboard` is the callback that logs
pictures and curves while the run trains: pictures of `samples`, and `charts` of classes. `progress` measures the speed
of a run, and prints it with the metrics. `results` reports the metrics at the end, and
`report_page` writes the page that shows all of it.
"""

from kit.dashboard.dashboard import Dashboard
from kit.dashboard.progress import Bar, Lines, Speed
from kit.dashboard.report_page import ReportPage
from kit.dashboard.results import report, require_measured, show_report
from kit.dashboard.tensorboard import Hyperparameters, TensorBoard

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
