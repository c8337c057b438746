"""Write a run's pictures into its folder `pictures`, and a page with them, `report.html`.

The page needs no other file. It has the verdict, the metrics, the pictures, the faults of the data and the config. Its
template is `report_page.html`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from kit.checks.report import faults_values
from kit.checks.survey import Survey
from kit.dashboard.charts import draw_chart
from kit.dashboard.history import Curve, History, add_point, training_and_validation
from kit.dashboard.pictures import batch_samples, chart_pictures, draw_samples, has_whole_net, sample_pictures
from kit.dashboard.report import grouped, is_of_class, run_value_texts
from kit.dashboard.tensorboard import encode
from kit.data import Batch, ImageDataModule
from kit.ground._lightning import data_module
from kit.ground.errors import one_line
from kit.ground.files import MiB, read_bytes, replacing, write_text
from kit.ground.html import PAGES
from kit.safeguards import Overfitting
from kit.safeguards.checkpoints import monitored_metrics
from kit.task import as_task

MAX_PHOTOGRAPH_BYTES = 250_000  # the largest size of a picture of samples; all pictures then have less than 2 MB
MAX_METRICS = 8  # the largest number of metrics of a validation that have curves
FIRST_PICTURES = re.compile(r"(first_batch|data_.*)\.(png|jpg)")  # pictures that are drawn when training begins
HEADINGS = {  # the headings of the page, by the beginning of a picture's name
    "curves_": "Training and validation",
    "worst.": "Worst images",
    "predictions.": "Samples with predictions",
    "generated.": "Generated images",
    "first_batch.": "First training batch, augmented",
    "data_": "Labels",
}


class ReportPage(L.Callback):
    """Collect curves and pictures during training and testing, and write the page.

    The page of a resumed run also shows the time before the resume: checkpoints hold the curves, and pictures of the
    first batch and of the data are written into the folder `pictures` as soon as training begins. Drawing leaves the
    random state untouched. If drawing raises an exception, the callback warns, and the page lacks these pictures.

    Args:
        overfitting: the callback that scores training images.
        samples: the largest number of images in a picture of samples.

    Attributes:
        survey: the faults of the data, or None if the data were not checked.
        first_pictures: the pictures that were drawn when training began, uint8 [3 H W], by their tags in TensorBoard.
            `Dashboard` logs them and removes them.
    """

    def __init__(self, overfitting: Overfitting, samples: int = 6) -> None:
        self.overfitting, self.samples = overfitting, samples
        self.first_pictures: dict[str, Tensor] = {}
        self.survey: Survey | None = None
        self._curves: dict[str, Curve] = {}  # by log key
        self._drawn_curves: dict[str, Tensor] = {}  # see `curve_pictures`
        self._losses = torch.zeros(2)  # the sum and the number of the training losses since the last validation
        self._modes: dict[str, str] = {}  # `min` or `max` by the log key of a monitored metric
        self._pictures: dict[str, bytes] = {}  # by file name

    def state_dict(self) -> dict[str, Any]:
        return {"curves": {key: [*curve] for key, curve in self._curves.items()}, "train_loss": self._losses.tolist()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not self._curves:  # the test after training loads the best checkpoint, whose curves end earlier
            self._curves = state_dict["curves"]
            self._losses = torch.tensor(state_dict["train_loss"])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._modes = monitored_metrics(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        data, is_trial = data_module(trainer), trainer.fast_dev_run  # type: ignore[attr-defined]
        if trainer.global_step or batch_idx or is_trial or not trainer.is_global_zero:
            return
        if isinstance(data, ImageDataModule):
            with self._drawing("charts of the data"):
                for name, chart in data.charts().items():
                    self.first_pictures[f"data/{name}"] = draw_chart(chart)
            with self._drawing("the first batch"):
                if isinstance(batch, Batch) and as_task(pl_module).has("draw"):
                    samples = batch_samples(data, batch, self.samples)
                    self.first_pictures["samples/first_batch"] = draw_samples(as_task(pl_module), samples)
            with self._drawing("the first pictures"):
                for tag, picture in self.first_pictures.items():
                    is_photograph = tag == "samples/first_batch"
                    name = "first_batch.jpg" if is_photograph else file_name(tag)
                    folder = Path(trainer.default_root_dir, "pictures")
                    content = encode_photograph(picture) if is_photograph else encode(picture)
                    write_pictures({name: content}, folder)

    def restore(self, history: History) -> None:
        """Take over the curves and the monitored metrics' modes of a run that has ended."""
        self._modes, self._curves = dict(history.modes), dict(history.curves)

    def on_train_batch_end(self, trainer: L.Trainer, _: Any, outputs: Any, *args: Any) -> None:
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else None
        if isinstance(loss, Tensor):
            # Lightning has divided the loss by the number of accumulated batches.
            loss = loss.detach().float().mean() * trainer.accumulate_grad_batches
            self._losses = self._losses.to(loss.device)
            self._losses += torch.stack([loss.nan_to_num(0, 0, 0), loss.isfinite()])

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._draw(trainer, pl_module, "val")
        elif trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._add_points(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._draw(trainer, pl_module, "test")

    def _add_points(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add a point to each curve: the metrics of this validation, and the training loss since the previous one."""
        logged = trainer.callback_metrics
        other_keys = (key for key in logged if key.startswith("val/") and not is_of_class(key))
        candidates = dict.fromkeys(["val/loss", *monitored_metrics(trainer, pl_module), *other_keys])
        keys = [key for key in candidates if key in logged][:MAX_METRICS]
        loss_sum, loss_count = self._losses.tolist()
        values = {"train/loss": loss_sum / loss_count} if loss_count else {}  # first, so that its chart comes first
        values |= {key: float(logged[key]) for key in keys}
        values |= {key: v for key, v in self.overfitting.gap_values(-1).items() if "/train_" in key}
        self._losses.zero_()  # in place: a tensor made in this hook, in inference mode, could not be added to
        self._drawn_curves = {}
        for key, value in values.items():
            add_point(self._curves.setdefault(key, []), trainer.global_step, value)

    def curve_pictures(self) -> dict[str, Tensor]:
        """Return a picture of each chart of curves, uint8 [3 H W]. They are drawn once after each validation."""
        if not self._drawn_curves:
            charts = training_and_validation(self._curves)
            self._drawn_curves = {metric: draw_chart(chart) for metric, chart in charts.items()}
        return self._drawn_curves

    @contextmanager
    def _drawing(self, pictures: str) -> Iterator[None]:
        """Warn if drawing raises an exception. `pictures` says in the warning what the page lacks."""
        try:
            yield
        except Exception as error:  # a task of any author may raise any exception
            rank_zero_warn(f"report.html lacks {pictures} ({type(error).__name__}: {one_line(error)})")

    def _draw(self, trainer: L.Trainer, pl_module: L.LightningModule, split: str) -> None:
        """Draw the charts of the evaluation, its worst samples, evenly spaced samples, and generated images.

        The model must be in evaluation mode.
        """
        task, data = as_task(pl_module), data_module(trainer)
        if not trainer.is_global_zero:
            return
        with self._drawing("charts"):
            for name, picture in chart_pictures(task):
                self._pictures[file_name(name)] = encode(picture)
        if not (has_whole_net(trainer) and isinstance(data, ImageDataModule)):
            return
        with self._drawing("pictures of samples"):
            for name, picture in sample_pictures(task, data, self.samples, split).items():
                self._pictures[f"{name}.jpg"] = encode_photograph(picture)

    def write(
        self,
        folder: Path,
        metrics: dict[str, float],
        run_values: dict[str, float],
        conclusion: str,
        notes: Sequence[str],
    ) -> None:
        """Write `folder/report.html`, `folder/pictures` and `folder/history.json`, see `History`.

        Args:
            folder: the run's folder.
            metrics, run_values, notes: see `kit.dashboard.report.report`.
            conclusion: the verdict and suggestions, see `Overfitting.conclusion`.
        """
        History(conclusion, self._modes, self._curves).write(folder)
        config = folder / "config.yaml"
        overall, by_class, class_keys = grouped(metrics)
        pictures: dict[str, bytes] = {}
        with self._drawing("curves"):
            pictures = {file_name(f"curves_{name}"): encode(curve) for name, curve in self.curve_pictures().items()}
        pictures |= self._pictures
        write_pictures(pictures, folder / "pictures")
        for file in sorted((folder / "pictures").glob("*")):
            if FIRST_PICTURES.fullmatch(file.name):
                pictures[file.name] = read_bytes(file, MiB)
            elif file.name not in pictures and file.suffix in (".png", ".jpg"):
                file.unlink()  # the file belongs to an earlier page of this run
        page = PAGES.get_template("dashboard/report_page.html").render(
            title=f"Run {folder.parent.name}/{folder.name}",
            notes=[", ".join(run_value_texts(run_values)), *notes],
            conclusion=conclusion,
            overall=overall,
            by_class=by_class,
            class_keys=class_keys,
            sections=sections(pictures),
            config=config.read_text(encoding="utf-8") if config.is_file() else "",
            **(faults_values(self.survey) if self.survey else {}),
        )
        write_text(folder / "report.html", page)


def file_name(chart_name: str) -> str:
    """Return the name of a chart's file."""
    return re.sub(r"[^\w.-]+", "_", chart_name)[:100] + ".png"


def encode_photograph(picture: Tensor) -> bytes:
    """Encode a picture, uint8 [3 H W], as JPEG. It is made smaller if it exceeds `MAX_PHOTOGRAPH_BYTES`."""
    while len(content := encode(picture, photograph=True)) > MAX_PHOTOGRAPH_BYTES:
        scale = 0.95 * (MAX_PHOTOGRAPH_BYTES / len(content)) ** 0.5
        picture = resize(picture, [max(1, round(side * scale)) for side in picture.shape[1:]])
    return content


def sections(pictures: Mapping[str, bytes]) -> dict[str, dict[str, bytes]]:
    """Return the pictures of each section of the page by its heading. The first section may have no picture."""
    by_heading: dict[str, dict[str, bytes]] = {"Training and validation": {}}
    for name, picture in pictures.items():
        default = "Results" if name.endswith(".png") else name.removesuffix(".jpg").capitalize()
        heading = next((heading for start, heading in HEADINGS.items() if name.startswith(start)), default)
        by_heading.setdefault(heading, {})[name] = picture
    return by_heading


def write_pictures(pictures: Mapping[str, bytes], folder: Path) -> None:
    """Write files, by their names, into a folder."""
    for name, content in pictures.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)
