"""Where a run stands: a bar on a terminal, a line now and then elsewhere."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar

from kit.dashboard.speed import Speed
from kit.safeguards.checkpoints import judged_by

SECONDS_BETWEEN_LINES = 10.0


class Bar(TQDMProgressBar):
    """Lightning's, with images a second and the metric that the run is judged by."""

    def __init__(self, speed: Speed) -> None:
        super().__init__(refresh_rate=10)
        self.speed = speed

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        return {**_metrics(trainer, *_shown(trainer, pl_module)), "images/s": f"{self.speed.images_per_second:.0f}"}


class Lines(L.Callback):
    """`epoch 3/10 step 1200 train/loss 0.0810 val/accuracy 0.9870 images/s 4512`, for logs and pipes."""

    def __init__(self, speed: Speed) -> None:
        self.speed = speed
        self._last = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if time.monotonic() - self._last > 3 * SECONDS_BETWEEN_LINES:  # in long epochs
            self._line(trainer, "train/loss")  # metrics of the last validation would look as if they were new

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if last or time.monotonic() - self._last > SECONDS_BETWEEN_LINES:
            self._line(trainer, *_shown(trainer, pl_module))

    def _line(self, trainer: L.Trainer, *keys: str) -> None:
        self._last = time.monotonic()
        if trainer.is_global_zero:
            of = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
            metrics = " ".join(f"{key} {value}" for key, value in _metrics(trainer, *keys).items())
            images = f"images/s {self.speed.images_per_second:.0f}"
            print(f"epoch {trainer.current_epoch + 1}{of} step {trainer.global_step} {metrics} {images}", flush=True)


def _shown(trainer: L.Trainer, pl_module: L.LightningModule) -> tuple[str, ...]:
    return ("train/loss", *judged_by(trainer, pl_module))


def _metrics(trainer: L.Trainer, *keys: str) -> dict[str, str]:
    known = trainer.callback_metrics
    return {key: f"{float(known[key]):.4f}" for key in keys if key in known}
