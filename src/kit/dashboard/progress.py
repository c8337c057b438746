"""Show the progress of a run: as a bar on a terminal, or as a line every few seconds elsewhere."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar

from kit.dashboard.speed import Speed
from kit.safeguards.checkpoints import judged_by

SECONDS_BETWEEN_LINES = 10.0


class Bar(TQDMProgressBar):
    """Lightning's progress bar, with the metrics that judge the run and the images per second."""

    def __init__(self, speed: Speed) -> None:
        super().__init__(refresh_rate=10)
        self.speed = speed

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        return _metrics(trainer, self.speed, "train/loss", *judged_by(trainer, pl_module))


class Lines(L.Callback):
    """Print lines for logs and pipes: `epoch 3/10 step 1200 train/loss 0.0810 val/accuracy 0.9870 images/s 4512`."""

    def __init__(self, speed: Speed) -> None:
        self.speed = speed
        self._printed_at = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._printed_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if time.monotonic() - self._printed_at > 3 * SECONDS_BETWEEN_LINES:  # in a long epoch
            self._print(trainer, "train/loss")  # the metrics of the last validation would look new

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        if is_last or time.monotonic() - self._printed_at > SECONDS_BETWEEN_LINES:
            self._print(trainer, "train/loss", *judged_by(trainer, pl_module))

    def _print(self, trainer: L.Trainer, *keys: str) -> None:
        self._printed_at = time.monotonic()
        if trainer.is_global_zero:
            epochs = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
            metrics = " ".join(f"{key} {value}" for key, value in _metrics(trainer, self.speed, *keys).items())
            print(f"epoch {trainer.current_epoch + 1}{epochs} step {trainer.global_step} {metrics}", flush=True)


def _metrics(trainer: L.Trainer, speed: Speed, *keys: str) -> dict[str, str]:
    logged = trainer.callback_metrics
    metrics = {key: f"{float(logged[key]):.4f}" for key in keys if key in logged}
    return {**metrics, "images/s": f"{speed.images_per_second:.0f}"}
