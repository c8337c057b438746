"""Print the messages of the safeguards, and write them to TensorBoard."""

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger


def log_message(trainer: L.Trainer, tag: str, message: str) -> None:
    """Print a message and write it to TensorBoard below `safeguards`, in the first process only."""
    if trainer.is_global_zero:
        print(message, flush=True)
        log_text(trainer, f"safeguards/{tag}", message)


def log_text(trainer: L.Trainer, tag: str, text: str) -> None:
    """Write Markdown to TensorBoard."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            # `kit.dashboard.TensorBoard` has `log_text`, which survives a full disk. Lightning's logger lacks it.
            write = getattr(logger, "log_text", None) or logger.experiment.add_text
            write(tag, text, trainer.global_step)
