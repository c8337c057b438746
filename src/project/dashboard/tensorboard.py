"""The log that TensorBoard shows."""

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only


class TensorBoard(TensorBoardLogger):
    """Lightning's, without its `hparams.yaml`: `config.yaml` stands beside the events and says the same and more."""

    @rank_zero_only
    def save(self) -> None:
        self.experiment.flush()
