"""A task as small as one can be, so that what knows no task is tested without a slice."""

from typing import ClassVar

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

from kit.charts import Matrix
from kit.data import ImageDataModule, Tensors
from kit.evaluation import Evaluation
from kit.task import ExportedModule, Task


class Shades(ImageDataModule):
    """Images of 6x8 whose brightness tells their class, one of three. train, val, test: how many; 0: no such split."""

    def __init__(self, train: int = 37, val: int = 0, test: int = 11, root: str = ".", **kwargs):
        super().__init__(**kwargs)
        self.counts = {"train": train, "val": val, "test": test}
        self.root = root

    def find_class_names(self):
        return ["dark", "grey", "light"]

    def find_in_channels(self):
        return 3

    def load_split(self, split):
        count = self.counts[split]
        if not count:
            return None
        generator = torch.Generator().manual_seed(len(split) + len(self.root))
        labels = torch.arange(count) % 3
        noise = torch.randint(0, 120, (count, 3, 6, 8), generator=generator)
        return Tensors(labels, (noise + 40 * labels.view(-1, 1, 1, 1)).to(torch.uint8))


class Judge(L.LightningModule):
    """One linear layer on all pixels."""

    monitor, mode = "val/accuracy", "max"

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        class_names: list[str] | None = None,
        class_counts: list[int] | None = None,
        lr: float = 0.01,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.net = nn.Linear(in_channels * 6 * 8, num_classes)
        self.accuracy = MulticlassAccuracy(num_classes, average="micro")

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch.images.flatten(1)), batch.targets)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        if len(batch.keys):
            self.accuracy.update(self.net(batch.images.flatten(1)), batch.targets)

    test_step = validation_step

    def on_validation_epoch_end(self):
        self.log("val/accuracy", self.accuracy.compute())
        self.accuracy.reset()

    def on_test_epoch_end(self):
        self.log("test/accuracy", self.accuracy.compute())
        self.accuracy.reset()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.hparams.lr)


class Rightness(Evaluation):
    """Of each image the class that it was taken for, and its own: Long[2]."""

    score_name = "accuracy"

    def entries(self, outputs, targets):
        return torch.stack([outputs.argmax(1), targets], 1)

    def compute(self, by_class=False):
        predicted, targets = self.rows.unbind(1)
        return {"accuracy": float((predicted == targets).double().mean())}

    def score_terms(self):
        predicted, targets = self.rows.unbind(1)
        right = (predicted == targets).double()
        return torch.stack([right, torch.ones_like(right)], 1)[..., None]

    def badness(self):
        predicted, targets = self.rows.unbind(1)
        return "off by", (predicted - targets).abs().float()

    def charts(self):
        predicted, targets = self.rows.unbind(1)
        confusion = torch.bincount(3 * targets + predicted, minlength=9).view(3, 3)
        return {"confusion": Matrix("Confusion matrix", confusion, ["a", "b", "c"], "images")}


class Judged(Task):
    """`Judge` as a task, whose validation gives a verdict."""

    monitor, mode = "val/accuracy", "max"

    def __init__(self, num_classes: int, in_channels: int, class_names: list[str] | None = None, lr: float = 0.01):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.net = nn.Linear(in_channels * 6 * 8, num_classes)

    @property
    def class_names(self):
        return self.hparams.get("class_names") or list("abc")

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch.images.flatten(1)), batch.targets)
        self.log("train/loss", loss)
        return loss

    def evaluate(self, batch):
        return self.net(batch.images.flatten(1))

    def evaluation(self, split):
        return Rightness(self.class_names)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.hparams.lr)


class Normed(Judged):
    """With BatchNorm that has its last batch's statistics: in a distributed run each process has others."""

    def __init__(self, num_classes: int, in_channels: int, lr: float = 0.01):
        super().__init__(num_classes, in_channels, lr=lr)
        self.net = nn.Sequential(nn.BatchNorm1d(in_channels * 6 * 8, momentum=1.0), self.net)


class Table:
    """Its predictions: `told.txt`, a line for each image, and an empty file for each. shout: in capital letters."""

    FOLDERS = ()

    def __init__(self, folder, class_names, shout: bool = False):
        self.folder, self.shout, self.lines = folder, shout, []

    def write_files(self, file, name, found):
        (self.folder / name.replace("/", "-")).touch()

    def add(self, file, name, found):
        self.lines.append(f"{file.name} {found.upper() if self.shout else found}\n")

    def finish(self):
        (self.folder / "told.txt").write_text("".join(self.lines), "utf-8", "backslashreplace")
        return [self.folder / "told.txt"]


class Used(Judge):
    """The same with what the verb `predict` needs."""

    Predictions = Table

    def predict(self, images, sizes, unpadded_sizes):
        return [self.hparams.class_names[k] for k in self.net(images.flatten(1)).argmax(1)]

    @property
    def class_names(self):
        return self.hparams.class_names


class Drawn(Judged):
    """The same with what `kit.dashboard.Dashboard` draws; dropout and BatchNorm would notice a stray pass."""

    def __init__(self, num_classes: int, in_channels: int, class_names: list[str] | None = None, lr: float = 0.01):
        super().__init__(num_classes, in_channels, class_names, lr=lr)
        self.net = nn.Sequential(nn.BatchNorm1d(in_channels * 6 * 8), nn.Dropout(0.3), self.net)

    def predict(self, images, sizes, unpadded_sizes):
        return self.net(images.flatten(1)).argmax(1).tolist()

    def draw(self, image, predicted=None, target=None):
        return image


class Answer(ExportedModule):
    """What the verb `export` needs of a task."""

    task = "judging"
    outputs: ClassVar = {"probabilities": {0: "batch"}}
    difference_name, tolerance = "difference of a probability", 1e-4

    def forward(self, images, size, unpadded_size):
        return (self.net(images.flatten(1)).softmax(1),)

    def difference(self, found, predicted):
        return float((found["probabilities"] - predicted).abs().max())

    def count(self, predicted):
        return len(predicted)


class Carried(Used):
    """The same with what the verb `export` needs."""

    def predict(self, images, sizes, unpadded_sizes):
        return list(self.net(images.flatten(1)).softmax(1))

    def exported(self):
        return Answer(self.net)


class Named(Carried):
    """With a net that is named by a text, and log keys without a slash."""

    def __init__(
        self, num_classes: int, in_channels: int, class_names: list[str], lr: float = 0.01, net: str = "linear"
    ):
        super().__init__(num_classes, in_channels, class_names, lr=lr)

    def on_test_epoch_end(self):
        self.log_dict({"test_accuracy": 0.25, "test_loss": 2.0})


class Stamps:
    """What it writes without images: `stamp_N.txt`. count: how many."""

    def __init__(self, folder, class_names, count: int = 3):
        self.folder, self.class_names, self.count = folder, class_names, count

    def make(self, model, batch_size):
        for number in range(self.count):
            (self.folder / f"stamp_{number}.txt").write_text(f"{self.class_names[number]} {batch_size}")
        return [self.folder]


class Maker(Judge):
    """A task that takes no images."""

    Predictions = Stamps

    @property
    def class_names(self):
        return self.hparams.class_names


class Clumsy(Drawn):
    """Its drawing fails when it is shown a prediction, and it logs its hyper-parameters by itself."""

    def __init__(self, num_classes: int, in_channels: int, class_names: list[str] | None = None, lr: float = 0.01):
        super().__init__(num_classes, in_channels, class_names, lr=lr)
        self.save_hyperparameters()

    def draw(self, image, predicted=None, target=None):
        if predicted is not None:
            raise ValueError("clumsy\nfingers")
        return image
