"""Parts of a training run.

`schedule` makes the optimizer and the learning rate schedule. `weights` loads pretrained weights and freezes backbones.
`averaging` averages the weights over the steps. `monitor` finds the metric that chooses the best checkpoint.
"""

from kit.training.averaging import EMA
from kit.training.schedule import Interval, Schedule, WarmupCosine, optimizer_and_schedule

__all__ = ["EMA", "Interval", "Schedule", "WarmupCosine", "optimizer_and_schedule"]
