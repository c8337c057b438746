"""What a guard has to say: a line on the screen, and text in TensorBoard."""

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger


def tell(trainer: L.Trainer, tag: str, said: str) -> None:
    """Of several processes the first one speaks."""
    if trainer.is_global_zero:
        print(said, flush=True)
        show(trainer, tag, said)


def show(trainer: L.Trainer, tag: str, text: str) -> None:
    """In TensorBoard alone: Markdown."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            write = getattr(logger, "log_text", None) or logger.experiment.add_text  # ours minds a full disk
            write(tag, text, trainer.global_step)
