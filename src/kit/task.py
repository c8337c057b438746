"""`Task`: the contract between a task and the library. The verbs, guards and dashboard use only these methods."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import lightning as L
from torch import Tensor, nn

from kit.data import Batch, Preprocessing
from kit.evaluation import Evaluation
from kit.ground.errors import NotMeasured

Sizes = Sequence[tuple[int, int]]  # heights and widths of images


class Task(L.LightningModule):
    """A net with its loss, its metrics and its optimizer.

    A subclass defines `forward`, `loss_terms`, `evaluate`, `evaluation` and `configure_optimizers`, and names its
    metric in `monitor` and `mode`. This is enough to train, guard, test and report it. Each other method adds a
    feature: `predict` and `Predictions` the verb `predict`, `draw` the pictures of the dashboard, `exported` the verb
    `export`.

    Attributes:
        monitor: the log key that chooses the best checkpoint.
        mode: `max` if higher values of it are better, else `min`; by default `min` for a loss, else `max`.
        class_names: the names of the classes.
        additive: whether the results of `loss_terms` for the parts of a batch add up exactly to the result for the
            whole batch. If not, the gradient of micro-batches is only nearly that of the batch, and the run warns.
        up_to_one: whether the best possible score is 1. If the best score is unknown, the verdict is `underfits` only
            if the model has learned almost nothing.
        Predictions: the class that writes predictions to files, see `kit.prediction.command.Predictions`.
    """

    monitor: str = "val/loss"
    mode: Literal["min", "max"] | None = None
    class_names: Sequence[str] = ()
    additive: bool = True
    up_to_one: bool = True
    Predictions: ClassVar[type | None] = None

    measured: Evaluation | None = None  # of the current validation or test, or of the last one

    def has(self, method: str) -> bool:
        """Return whether the subclass defines an optional method of this class."""
        # The method is given by its name.
        return getattr(type(self), method) is not getattr(Task, method)

    # Training

    def loss_terms(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the summed losses of a batch and their divisors, Float[J] both.

        The loss is the sum of the J quotients. The memory guard calls this for parts of a batch and adds up the sums
        and the divisors, which gives the gradient of the whole batch.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss_terms: define it, or training_step")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch, Float[], and log it as `train/loss`."""
        return self.loss(batch, len(batch.keys))

    def loss(self, batch: Any, samples: int) -> Tensor:
        """Return the sum of the quotients of `loss_terms(batch)`, Float[], and log it as `train/loss`.

        Args:
            batch: the argument of `loss_terms`. If the loss needs random numbers, draw them before this call.
            samples: the number of samples in the batch.
        """
        sums, divisors = self.loss_terms(batch)
        loss = (sums / divisors.where(divisors > 0, 1)).sum()  # a sum whose divisor is 0 is 0, too
        self.log("train/loss", loss, batch_size=samples)
        return loss

    # Evaluation

    def evaluate(self, batch: Batch) -> Any:
        """Return the outputs for a batch: a tensor or a list with one entry for each sample.

        This is called in evaluation mode and without gradients, for validation, test and the training images of the
        verdict. If the batch does not fit into memory, the memory guard calls it for parts of the batch.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define evaluate(batch)")

    def evaluation(self, split: str) -> Evaluation:
        """Return a new `Evaluation` for a split: `val`, `test`, or `train` for the training images of the verdict."""
        raise NotImplementedError(f"{type(self).__name__} does not define evaluation(split)")

    def on_validation_epoch_start(self) -> None:
        self.measured = self.evaluation("val")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        assert self.measured is not None  # set at the start of the epoch
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
        """Log the metrics of `measured`. The metrics of each class are logged in the final report only."""
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

    def predict(self, images: Tensor, sizes: Sizes, content_sizes: Sizes) -> list[Any]:
        """Return the prediction for each image, on the CPU and in the coordinates of the original image.

        Args:
            images: Float[B C H W], normalised.
            sizes: the heights and widths of the original images.
            content_sizes: the height and width of the part of `images` that each original fills, from the top left.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no images")

    def exported(self) -> nn.Module:
        """Return the module that the verb `export` writes to a file, usually an `ExportedModule`."""
        raise NotImplementedError(f"{type(self).__name__} cannot be exported")

    def plain(self) -> Self:
        """Return a copy without the steps that the exported module leaves out. The file is compared with this copy."""
        return self

    # Pictures

    def draw(self, image: Tensor, predicted: Any = None, target: Any = None) -> Tensor:
        """Draw a sample, uint8 [3 H W].

        Args:
            image: uint8 [C H W].
            predicted: the prediction for it, as `predict` returns it, or None.
            target: the target of the sample, or None.
        """
        raise NotImplementedError(f"{type(self).__name__} does not draw its samples")

    def draw_samples(self, size: Sequence[int]) -> Tensor:
        """Return a picture of images that the model generates, always from the same noise, uint8 [3 H W].

        Args:
            size: the height and width of an image.
        """
        raise NotImplementedError(f"{type(self).__name__} makes no images")


class ExportedModule(nn.Module):
    """The base class for what `Task.exported` returns: a module that can be exported, with a description.

    A subclass defines `task`, `outputs`, `measured`, `tolerance`, `difference` and `forward`. `forward` takes

    - `images`, Float[B C H W], normalised,
    - `size`, the original images' height and width, and
    - `content_size`, the height and width of their part of `images`, from the top left,

    and returns a tuple of tensors. The module of a task that generates images has `inputs`, `example` and `expected`
    instead, and its `forward` takes these inputs.

    Args:
        net: the net of the task.
        left_out: a description of what the task does in evaluation and this module does not, or "". If there is such a
            thing, the task's method `plain()` returns a copy without it, with which the file is compared.

    Attributes:
        task: the name of the task, as `classification`, which is written into the file.
        inputs: the names of the inputs of `forward`, and of their dynamic dimensions by index, if they are not images.
        outputs: the names of the outputs of `forward`, and of their dynamic dimensions by index, as `{0: "batch"}`.
        measured: a description of `difference`.
        tolerance: the largest allowed difference on any image.
        one_at_a_time: whether the file takes one image, and the outputs have no batch dimension.
        counted: the objects that are compared, as `boxes`, if an image may have none; or "".
    """

    task: str
    inputs: ClassVar[Mapping[str, Mapping[int, str]]] = {}
    outputs: ClassVar[Mapping[str, Mapping[int, str]]]
    measured: str
    tolerance: float
    one_at_a_time = False
    counted = ""

    def __init__(self, net: nn.Module, left_out: str = "") -> None:
        super().__init__()
        self.net, self.left_out = net, left_out

    def difference(self, outputs: Mapping[str, Tensor], predicted: Any) -> float:
        """Return the difference between the outputs of a file and the prediction of the task, for one image."""
        raise NotImplementedError(f"{type(self).__name__} does not define difference(outputs, predicted)")

    def count(self, predicted: Any) -> int:
        """Return the number of objects, see `counted`, in the prediction of the task for one image."""
        return 1

    def example(self, preprocessing: Preprocessing, count: int) -> tuple[Tensor, ...]:
        """Return inputs for `count` images like the training images. The first ones do not depend on `count`."""
        raise NotImplementedError(f"{type(self).__name__} does not define example(preprocessing, count)")

    def expected(self, task: Any, *inputs: Tensor) -> Any:
        """Return the task's own output for the inputs of one image, for `difference`."""
        raise NotImplementedError(f"{type(self).__name__} does not define expected(task, *inputs)")


class _Plain:
    """An adapter that gives a plain LightningModule the interface of `Task`.

    The methods that the module defines are used; the others are those of `Task`. Its own steps validate it, so there
    is no `Evaluation`.
    """

    def __init__(self, module: L.LightningModule) -> None:
        self.module = module

    def has(self, method: str) -> bool:
        # The module is of any class, so that only `getattr` can tell what it has.
        return method not in ("evaluate", "evaluation") and callable(getattr(self.module, method, None))

    def __getattr__(self, name: str) -> Any:
        # Forward the attribute to the module, or else to the defaults of `Task`.
        return getattr(self.module, name) if hasattr(self.module, name) else getattr(Task, name)


def as_task(module: L.LightningModule) -> Any:
    """Return a module as a `Task`: the module itself if it is one, else an adapter with the same interface.

    Only this adapter decides what a plain LightningModule lacks.
    """
    return module if isinstance(module, Task) else _Plain(module)
