"""What a task is to everything below it: the verbs, the guards and the dashboard ask for nothing else."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import lightning as L
from torch import Tensor, nn

from kit.data import Batch
from kit.evaluation import Evaluation
from kit.ground.errors import NotMeasured


class Task(L.LightningModule):
    """A net, how it is trained and how it is measured.

    A subclass defines `forward`, `loss_terms`, `evaluate`, `evaluation` and `configure_optimizers`, and names its
    metric in `monitor` and `mode`. That is trained, guarded, tested and reported. Each of the other methods adds
    something: `predict` and `Predictions` the verb `predict`, `draw` the dashboard's pictures, `exported` the verb
    `export`.

    Attributes:
        monitor: the log key that chooses the best checkpoint.
        mode: whether the higher or the lower value of it is the better; by default `min` for a loss, else `max`.
        class_names: the names of the classes.
        additive: whether what `loss_terms` returns for the parts of a batch adds up exactly to what it returns for the
            whole batch. If not, micro-batches have nearly the gradient of the whole batch, and the run says so.
        up_to_one: whether the best possible score is 1. If nobody knows it, a run is said to underfit only if it has
            learned next to nothing.
        Predictions: the class that writes what `predict` returns to files, see `kit.prediction.command.Predictions`.
    """

    monitor: str = "val/loss"
    mode: Literal["min", "max"] | None = None
    class_names: Sequence[str] = ()
    additive: bool = True
    up_to_one: bool = True
    Predictions: ClassVar[type | None] = None

    measured: Evaluation | None = None  # of the validation or the test that is under way, or was the last

    def has(self, method: str) -> bool:
        """Return whether the subclass defines an optional method of this class."""
        return getattr(type(self), method) is not getattr(Task, method)

    # Training

    def loss_terms(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the summed losses of a batch and what each is divided by, Float[J] both.

        The loss is the sum of the J quotients. The memory guard calls it for parts of a batch and adds both up, which
        gives the gradient of the whole batch.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss_terms: define it, or training_step")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch, Float[], and log it as `train/loss`."""
        return self.loss(batch, len(batch.keys))

    def loss(self, batch: Any, samples: int) -> Tensor:
        """Return the sum of the quotients of `loss_terms(batch)`, Float[], and log it as `train/loss`.

        Args:
            batch: what `loss_terms` takes; a task whose loss needs random numbers draws them before.
            samples: the number of samples in the batch.
        """
        sums, weights = self.loss_terms(batch)
        loss = (sums / weights.where(weights > 0, 1)).sum()  # what has no weight has no sum
        self.log("train/loss", loss, batch_size=samples)
        return loss

    # Evaluation

    def evaluate(self, batch: Batch) -> Any:
        """Return the outputs for a batch, a tensor or a list with an entry for each sample.

        Called in evaluation mode and without gradients: in validations and tests, and for the training images that the
        verdict compares with. If the batch does not fit into memory, the memory guard calls it for parts of the batch.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define evaluate(batch)")

    def evaluation(self, split: str) -> Evaluation:
        """Return a new object that measures a split: `val`, `test`, or `train` for the verdict's training images."""
        raise NotImplementedError(f"{type(self).__name__} does not define evaluation(split)")

    def on_validation_epoch_start(self) -> None:
        self.measured = self.evaluation("val")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        assert self.measured is not None  # Lightning began the epoch
        self.measure(self.measured, batch)

    def on_validation_epoch_end(self) -> None:
        self.report("val")

    def on_test_epoch_start(self) -> None:
        self.measured = self.evaluation("test")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        assert self.measured is not None
        self.measure(self.measured, batch)

    def on_test_epoch_end(self) -> None:
        self.report("test")

    def measure(self, evaluation: Evaluation, batch: Batch) -> None:
        """Add the outputs for a batch to an evaluation."""
        if len(batch.keys):  # in a distributed run a process may get no samples
            evaluation.update(batch.keys, self.evaluate(batch), batch.targets)

    def report(self, split: str) -> None:
        """Log the metrics of `measured`; those of each class only after training, when the split is reported."""
        evaluation = self.measured
        assert evaluation is not None
        evaluation.gather()
        training = split == "val" and self.trainer.state.fn == "fit"
        values = evaluation.compute(by_class=not training)
        name = self.monitor.partition("/")[2]
        if name not in values:
            if training and not self.trainer.sanity_checking:
                raise NotMeasured(f"{evaluation.unmeasured}, so {self.monitor} cannot choose a checkpoint")
            values[name] = float("nan")
        self.log_dict({f"{split}/{key}": value for key, value in values.items()})

    # Using the trained model

    def predict(self, images: Tensor, sizes: Sequence[tuple[int, int]], areas: Sequence[tuple[int, int]]) -> list[Any]:
        """Return what is found in each image, on the CPU and in terms of the original image.

        Args:
            images: Float[B C H W], normalised.
            sizes: the original images' heights and widths.
            areas: the heights and widths that they take of `images`, from the top left.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no images")

    def exported(self) -> nn.Module:
        """Return the module that the verb `export` writes to a file, see `kit.exporting.protocol.Exported`."""
        raise NotImplementedError(f"{type(self).__name__} cannot be exported")

    def plain(self) -> Self:
        """Return a copy without what the exported module leaves out; the file is compared with that copy."""
        return self

    # Pictures

    def draw(self, image: Tensor, predicted: Any = None, target: Any = None) -> Tensor:
        """Return a sample as a picture, uint8 [3 H W].

        Args:
            image: uint8 [C H W].
            predicted: what `predict` returned for it, or None.
            target: the sample's target, or None.
        """
        raise NotImplementedError(f"{type(self).__name__} does not draw its samples")

    def sampled(self, size: Sequence[int]) -> Tensor:
        """Return some images that the model makes, of the same noise each time, as one picture, uint8 [3 H W].

        Args:
            size: the height and width of an image.
        """
        raise NotImplementedError(f"{type(self).__name__} makes no images")


class _Plain:
    """A LightningModule that is no `Task`, seen as one: it has the methods that it defines, under the same names.

    It is validated by its own steps, which fill no `Evaluation`.
    """

    def __init__(self, module: L.LightningModule) -> None:
        self.module = module

    def has(self, method: str) -> bool:
        return method not in ("evaluate", "evaluation") and callable(getattr(self.module, method, None))

    def __getattr__(self, name: str) -> Any:
        if hasattr(self.module, name):
            return getattr(self.module, name)
        return getattr(Task, name)  # the default of what a task says of itself


def as_task(module: L.LightningModule) -> Any:
    """Return a module as a `Task`: itself if it is one, else an object that answers what a `Task` is asked.

    This is the only place that decides what a plain LightningModule lacks.
    """
    return module if isinstance(module, Task) else _Plain(module)
