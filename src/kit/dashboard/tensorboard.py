"""The log that TensorBoard shows."""

import io
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torch.utils.tensorboard.summary import hparams

QUALITY = 88  # of photographs, as JPEG


class TensorBoard(TensorBoardLogger):
    """Lightning's, without its `hparams.yaml`: `config.yaml` stands beside the events and says the same and more.

    A disk that is full costs points of the log, and says so, but does not end the run.

    Args:
        save_dir: the folder of the events; by default the run's.
    """

    def __init__(self, save_dir: str | Path = ".") -> None:
        super().__init__(str(save_dir), name="", version="", default_hp_metric=False)

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self._try(super().log_metrics, metrics, step)

    @rank_zero_only
    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        """A row of the table of runs: classes by their names, their arguments below them (`optimizer/lr`).

        Lightning's also says which columns the table has, and that of the first run would hold for all: it would have
        no column for another task's metric. Left out, it has those of all runs, the ones that differ first.
        """

        values = dict(flat(vars(params) if isinstance(params, Namespace) else params))

        def write() -> None:
            _, *rows = hparams(values, metrics or {})
            for row in rows:
                self.experiment._get_file_writer().add_summary(row, step)

        self._try(write)
        if metrics:
            self.log_metrics(metrics, step)

    def size(self) -> int:
        """Of the run's log, in bytes."""
        return sum(file.stat().st_size for file in Path(self.log_dir).glob("events.out.*"))

    @rank_zero_only
    def log_text(self, tag: str, text: str, step: int) -> None:
        """Write Markdown. Links, pictures and HTML, which names of classes and files may hold, are escaped."""
        harmless = text.replace("<", "&lt;").replace("![", "!&#91;").replace("](", "]&#40;")
        self._try(lambda: self.experiment.add_text(tag, harmless, step))

    @rank_zero_only
    def log_layout(self, layout: dict[str, Any]) -> None:
        """Of the custom scalars, as `SummaryWriter.add_custom_scalars` has it."""
        self._try(lambda: self.experiment.add_custom_scalars(layout))

    @rank_zero_only
    def log_picture(self, tag: str, image: Tensor, step: int, photograph: bool = False) -> int:
        """uint8 [3 H W]; returns how many bytes it takes. Photographs are compressed with some loss."""
        content, (height, width) = encoded(image, photograph), image.shape[1:]
        shown = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
        summary = Summary(value=[Summary.Value(tag=tag, image=shown)])
        self._try(lambda: self.experiment._get_file_writer().add_summary(summary, step))
        return len(content)

    @rank_zero_only
    def log_precision_recall(self, tag: str, curve: Tensor, positives: int, step: int) -> None:
        """A curve, over 101 thresholds of the score.

        Args:
            curve: Float[3 R], scores, precisions and recalls, the latter rising from 0; a precision of 0 is where a
                recall is not reached.
            positives: how many there are to find.
        """
        scores, precisions, recalls = curve
        thresholds = torch.linspace(0, 1, 101, dtype=scores.dtype)
        reached = (scores >= thresholds[:, None]) & (precisions > 0)  # [101 R]
        last = torch.where(reached, torch.arange(len(scores)), -1).amax(1)
        recall = torch.where(last >= 0, recalls[last], 0)
        precision = torch.where(last >= 0, precisions[last], 1)
        found = recall * positives
        false = found * (1 - precision) / precision
        counts = found, false, torch.zeros(101), positives - found
        numbers = [value.numpy() for value in (*counts, precision, recall)]
        self._try(lambda: self.experiment.add_pr_curve_raw(tag, *numbers, step, 101))

    @rank_zero_only
    def save(self) -> None:
        self._try(lambda: self.experiment.flush())

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


def encoded(image: Tensor, photograph: bool = False) -> bytes:
    """Return uint8 [3 H W] as the content of a PNG file, or as that of a JPEG file if it is a photograph."""
    stream = io.BytesIO()
    pixels = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    if photograph:
        pixels.save(stream, "JPEG", quality=QUALITY, subsampling=0)
    else:
        pixels.save(stream, "PNG")
    return stream.getvalue()


def flat(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """`optimizer: AdamW` and `optimizer/lr: 0.003` of a class path and its arguments; what is not given is left out."""
    for key, value in values.items():
        name = f"{within}{key}"
        if isinstance(value, Mapping) and "class_path" in value:
            yield name, value["class_path"].rsplit(".", 1)[-1]
            yield from flat(value.get("init_args") or {}, f"{name}/")
        elif isinstance(value, Mapping):
            yield from flat(value, f"{name}/")
        elif value is not None:
            yield name, value if isinstance(value, (bool, int, float, str)) else str(value)
