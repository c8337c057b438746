"""Signs of trouble in numbers that are all finite: a loss that runs away, and parameters that no gradient reaches."""

from collections import deque
from statistics import median
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor

# Far above what is usual, for long. Detectors' losses and those of small batches jump by a factor of three, and one
# batch with a wrong label by any factor; that fifty batches in a row are ten times their size above the median is
# neither noise nor a schedule's doing.
WINDOW = 200  # losses whose median is what is usual
FEWEST = 20  # before so many are known nothing is unusual
FAR = 10.0
LONG = 50

VANISHED = 1e-10  # of the whole gradient's norm; rounding alone is 1e-8 of it (a bias before batch normalisation)
SILENT_STEPS = 200
NAMED = 3  # parameters


class Runaway:
    """Whether a loss has been far above its running median for long; a loss that is far does not change the median."""

    def __init__(self) -> None:
        self.usual: deque[float] = deque(maxlen=WINDOW)
        self.far = 0

    @property
    def usual_so_far(self) -> bool:
        """Whether enough is known to say that the last loss was as usual."""
        return len(self.usual) >= FEWEST and not self.far

    def seen(self, loss: float) -> bool:
        """True from the `LONG`th loss in a row on that is far above the median."""
        self.far = self.far + 1 if len(self.usual) >= FEWEST and loss > self._limit() else 0
        if not self.far:
            self.usual.append(loss)
        return self.far >= LONG

    def _limit(self) -> float:
        """Where a loss passes through zero its median says nothing of its size, but its spread does."""
        middle = median(self.usual)
        spread = median(abs(loss - middle) for loss in self.usual)
        return middle + FAR * max(abs(middle), spread)

    def state_dict(self) -> dict[str, Any]:
        return {"usual": list(self.usual), "far": self.far}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.usual, self.far = deque(state["usual"], maxlen=WINDOW), state["far"]


class Silence:
    """For how many steps in a row no gradient, or next to none, has reached each parameter; counted on the device."""

    def __init__(self) -> None:
        self.steps: Tensor | None = None  # Long[P], P parameters that have a gradient
        self.told = False
        self._whose: list[int] = []

    def seen(self, parameters: list[Tensor], norms: Tensor, loss: Tensor) -> Tensor:
        """The largest count. Where the loss is exactly zero there is nothing left to learn, and no silence.

        Args:
            norms: Float[P], of each parameter's gradient.
        """
        whose = [id(parameter) for parameter in parameters]
        if self.steps is None or (self._whose and whose != self._whose) or len(whose) != len(self.steps):
            self.steps = torch.zeros(len(whose), dtype=torch.long, device=norms.device)
        self._whose = whose
        silent = (norms <= VANISHED * norms.norm()) & (loss != 0)
        self.steps = (self.steps.to(norms.device) + 1) * silent
        return self.steps.max()

    def tell(self, pl_module: L.LightningModule) -> None:
        """Says once whom no gradient has reached for `SILENT_STEPS`."""
        if self.told or self.steps is None:
            return
        self.told = True
        counts = dict(zip(self._whose, self.steps.tolist(), strict=True))
        silent = [name for name, p in pl_module.named_parameters() if counts.get(id(p), 0) >= SILENT_STEPS]
        more = f" and {len(silent) - NAMED} more" if len(silent) > NAMED else ""
        rank_zero_only(print)(
            f"nan_guard: no gradient has reached {', '.join(silent[:NAMED])}{more} for {SILENT_STEPS} steps: is its "
            "output used? Dead ReLUs want a lower learning rate; vanishing gradients want normalisation or skips",
            flush=True,
        )

    def state_dict(self) -> dict[str, Any]:
        return {"steps": None if self.steps is None else self.steps.cpu(), "told": self.told}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.told, self._whose = state["steps"], state["told"], []
