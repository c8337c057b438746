"""Show a run in TensorBoard and on the terminal, with callbacks that know no task.

`tensorboard` is the logger. `dashboard` is the callback that logs pictures and curves while the run trains: pictures of
`samples`, and `charts` of classes. `hyperparameters` logs a row of TensorBoard's table of runs. `speed` measures images
per second and memory, and `progress` prints them with the metrics. `results` reports the metrics at the end.
"""

from kit.dashboard.dashboard import Dashboard
from kit.dashboard.hyperparameters import Hyperparameters
from kit.dashboard.progress import Bar, Lines
from kit.dashboard.results import report, require_measured, show_report
from kit.dashboard.speed import Speed
from kit.dashboard.tensorboard import TensorBoard

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
