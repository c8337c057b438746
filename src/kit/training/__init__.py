"""Parts of a training run.

`schedule` makes the optimizer and the learning rate schedule. `weights` loads pretrained weights, and
`finetuning` trains them further. `averaging` averages the weights over the steps. `precision` chooses between float32
and bfloat16. `monitor` finds the metric that chooses the best checkpoint. `clustering` sets kernels by k-means.
"""

from kit.training.averaging import EMA
from kit.training.finetuning import FineTuning
from kit.training.precision import AutoPrecision
from kit.training.schedule import Interval, Schedule, WarmupCosine, optimizer_and_schedule

__all__ = ["EMA", "AutoPrecision", "FineTuning", "Interval", "Schedule", "WarmupCosine", "optimizer_and_schedule"]
