"""Show a run in TensorBoard, on the terminal and on an HTML page. The callbacks work with any task.

`tensorboard` defines the logger, and logs a run's row in TensorBoard's table of runs. `dashboard` is the callback that
logs curves, pictures of samples and a confusion matrix during training; `pictures` draws them. `speed` measures the
run's speed, and `progress` shows it with the metrics on the terminal. At the end, `report` reports the metrics, and
`report_page` writes a page with pictures. `history` keeps the run's curves for the page and for `comparison_page`,
which compares runs.
"""

from kit.dashboard.dashboard import Dashboard
from kit.dashboard.progress import Bar, Lines
from kit.dashboard.report_page import ReportPage
from kit.dashboard.speed import Speed
from kit.dashboard.tensorboard import TensorBoard

__all__ = ["Bar", "Dashboard", "Lines", "ReportPage", "Speed", "TensorBoard"]
