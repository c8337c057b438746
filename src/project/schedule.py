"""Learning rates over a run. A schedule is called with the optimizer and the run's number of steps."""

import math
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class WarmupCosine(LambdaLR):
    """Up in a straight line, then down along half a cosine (Loshchilov and Hutter 2017, SGDR, without restarts).

    Args:
        optimizer: its learning rate is the highest.
        steps: of the whole run; one optimizer step each.
        warmup: the share of the steps that go up.
        final: where it ends, as a share of the highest rate.
    """

    def __init__(self, optimizer: Optimizer, steps: int, warmup: float = 0.1, final: float = 0.0) -> None:
        super().__init__(optimizer, partial(_factor, steps=steps, warmup=warmup, final=final))


def _factor(step: int, steps: int, warmup: float, final: float) -> float:
    up = max(1.0, warmup * steps)
    if step < up:
        return (step + 1) / (up + 1)
    share = min(1.0, (step - up) / max(1.0, steps - up))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * share))
