"""The log that TensorBoard shows."""

import sys
from collections.abc import Callable
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only


class TensorBoard(TensorBoardLogger):
    """Lightning's, without its `hparams.yaml`: `config.yaml` stands beside the events and says the same and more.

    A disk that is full costs points of the log, and says so, but does not end the run.
    """

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self._try(super().log_metrics, metrics, step)

    @rank_zero_only
    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        self._try(super().log_hyperparams, params, metrics, step)

    @rank_zero_only
    def save(self) -> None:
        self._try(self.experiment.flush)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self._try(super().finalize, status)

    def _try(self, write: Callable[..., None], *arguments: Any) -> None:
        try:
            write(*arguments)
        except (OSError, ValueError) as error:
            cause = error.__cause__ or error  # Lightning makes a ValueError of everything
            if not isinstance(cause, OSError):
                raise
            self._experiment = None  # its thread has ended: the next point begins a new file
            why = (
                f"{self.log_dir} could not be written ({cause.strerror}); training goes on, points of the log are lost"
            )
            print(f"warning: {why}", file=sys.stderr, flush=True)
