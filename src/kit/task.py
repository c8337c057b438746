"""`Task`: the base class of all tasks, with every method that the library calls."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

import lightning as L
from torch import Tensor, nn

from kit.data import Batch, Preprocessing
from kit.evaluation import Evaluation
from kit.ground.errors import NotMeasured

Sizes = Sequence[tuple[int, int]]  # heights and widths of images


class Task(L.LightningModule):
    """A net with its loss, its metrics and its optimizer.

    A subclass defines `forward`, `loss_terms`, `evaluate`, `evaluation` and `configure_optimizers`, and sets `monitor`
    and `mode`. The library can then train, test and report. Other methods are optional. The command `predict` needs
    `predict` and `Predictions`, the dashboard's pictures need `draw`, and the command `export` needs `exported`.

    Attributes:
        monitor: the log key of the metric that chooses the best checkpoint.
        mode: whether a higher (`max`) or a lower (`min`) metric is better; by default `min` for a loss, else `max`.
        class_names: the names of the classes.
        additive: whether the results of `loss_terms` for the parts of a batch add up exactly to the result for the
            batch. If not, the gradient of micro-batches is only close to that of the batch, and the run says so.
        has_known_maximum: whether the best possible score is known to be 1. If not, the verdict at the end of a run is
            `underfits` only if almost nothing was learned.
        Predictions: the class that writes predictions to files, see `kit.prediction.command.Predictions`.
        prediction_options: defaults for arguments of `Predictions` that depend on the model, such as a threshold.
        latest_evaluation: the evaluation of the latest validation or test.
        rates: the learning rates of some parameters, by the parameter's name, as fractions of the optimizer's learning
            rate. `FineTuning` sets them.
    """

    monitor: str = "val/loss"
    mode: Literal["min", "max"] | None = None
    class_names: Sequence[str] = ()
    additive: bool = True
    has_known_maximum: bool = True
    Predictions: ClassVar[type | None] = None
    prediction_options: Mapping[str, Any] = MappingProxyType({})
    latest_evaluation: Evaluation | None = None
    rates: Mapping[str, float] = MappingProxyType({})

    def has(self, method: str) -> bool:
        """Return whether the subclass defines the optional method with this name."""
        return getattr(type(self), method) is not getattr(Task, method)

    # Training

    def loss_terms(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the sums of J losses over a batch, and their divisors, Float[J] both.

        The training loss is the sum of the J quotients. The memory guard calls this method for parts of a batch. It
        adds up the sums and the divisors, and so gets the gradient of the whole batch.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss_terms: define it, or training_step")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch, Float[], and log it as `train/loss`."""
        return self.loss(batch, len(batch.keys))

    def loss(self, batch: Any, num_samples: int) -> Tensor:
        """Return the sum of the quotients of `loss_terms(batch)`, Float[], and log it as `train/loss`.

        Args:
            batch: the argument of `loss_terms`. If the loss needs random numbers, such as noise, they must be in the
                batch, since `loss_terms` may be called for parts of it.
            num_samples: the number of samples in the batch.
        """
        sums, divisors = self.loss_terms(batch)
        loss = (sums / divisors.where(divisors > 0, 1)).sum()  # a divisor of 0 counts as 1
        self.log("train/loss", loss, batch_size=num_samples)
        return loss

    # Evaluation

    def evaluate(self, batch: Batch) -> Any:
        """Return the outputs for a batch: a tensor or a list with one entry for each sample.

        The library calls this in evaluation mode and without gradients: for validation, for test, and at each
        validation for some training images, whose score is compared with the validation score. If a batch does not fit
        into memory, the memory guard calls this method for parts of the batch.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define evaluate(batch)")

    def evaluation(self, split: str) -> Evaluation:
        """Return a new `Evaluation` for the split `val`, `test` or `train`.

        `train` is for some training images at each validation: a comparison with `val` shows overfitting.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define evaluation(split)")

    def on_validation_epoch_start(self) -> None:
        self.latest_evaluation = self.evaluation("val")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.measure(self.latest_evaluation, batch)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self.report("val")

    def on_test_epoch_start(self) -> None:
        self.latest_evaluation = self.evaluation("test")

    def on_test_epoch_end(self) -> None:
        self.report("test")

    def measure(self, evaluation: Evaluation, batch: Batch) -> None:
        """Add the outputs for a batch to an evaluation."""
        if len(batch.keys):  # a process of a distributed run may get no samples
            evaluation.update(batch.keys, self.evaluate(batch), batch.targets)

    def report(self, split: str) -> None:
        """Log the metrics of `latest_evaluation`. Validations during training leave out the metrics of each class."""
        evaluation: Any = self.latest_evaluation
        evaluation.gather()
        is_fit = split == "val" and self.trainer.state.fn == "fit"
        values = evaluation.compute(by_class=not is_fit)
        metric = self.monitor.partition("/")[2]
        if metric not in values:
            if is_fit and not self.trainer.sanity_checking:
                raise NotMeasured(f"{evaluation.why_unmeasured}, so {self.monitor} cannot choose a checkpoint")
            values[metric] = float("nan")
        self.log_dict({f"{split}/{key}": value for key, value in values.items()})

    # Using the trained model

    def predict(self, images: Tensor, sizes: Sizes, unpadded_sizes: Sizes) -> list[Any]:
        """Return the prediction for each image, on the CPU and in the coordinates of the original image.

        Args:
            images: Float[B C H W], normalised.
            sizes: (height, width) of each original image.
            unpadded_sizes: (height, width) of the top left part of each padded image that the original fills.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no images")

    def exported(self) -> nn.Module:
        """Return the module that the command `export` writes to a file, usually an `ExportedModule`."""
        raise NotImplementedError(f"{type(self).__name__} cannot be exported")

    def plain(self) -> Self:
        """Return this task without the steps that an exported file leaves out. `export` compares the file with it."""
        return self

    # Pictures

    def draw(self, image: Tensor, predicted: Any = None, target: Any = None) -> Tensor:
        """Draw a sample, uint8 [3 H W].

        Args:
            image: uint8 [C H W].
            predicted: the image's prediction, as `predict` returns it, or None.
            target: the target of the sample, or None.
        """
        raise NotImplementedError(f"{type(self).__name__} does not draw its samples")

    def draw_generated(self, size: Sequence[int]) -> Tensor:
        """Generate images of a height and width from the same noise at each call. Return a picture, uint8 [3 H W]."""
        raise NotImplementedError(f"{type(self).__name__} makes no images")


class ExportedModule(nn.Module):
    """A module that can be exported, with a description; the base class of the modules that `Task.exported` returns.

    A subclass defines `task`, `outputs`, `difference_name`, `tolerance`, `difference` and `forward`. `forward` returns
    a tuple of tensors and takes

    - `images`, Float[B C H W], normalised,
    - `size`, (height, width) of the original images, and
    - `unpadded_size`, (height, width) of the top left part of `images` that the originals fill.

    If the task generates images, the subclass also defines `inputs`, `example` and `expected`. `forward` then takes the
    tensors that `inputs` names, and no images.

    Args:
        net: the net of the task.
        left_out: a description of the steps of evaluation that the file leaves out, or "". See `Task.plain`.

    Attributes:
        task: the name of the task in the file, such as `classification`.
        inputs: the dynamic dimensions of each input by name, such as `{"noise": {0: "batch"}}`; empty for images.
        outputs: the dynamic dimensions of each output by name, such as `{"logits": {0: "batch"}}`.
        difference_name: what `difference` returns, in words, such as `largest difference of a pixel`.
        tolerance: the largest allowed difference on any image.
        harmless_cause: a harmless reason why the difference may exceed `tolerance`, with a remedy; "" if there is none.
        one_at_a_time: whether the file takes one image, and the outputs have no batch dimension.
        metadata: further values for the file's metadata, by name; each is stored as JSON.
        counted: the plural name of the objects that `count` counts, such as `boxes`; "" if it counts images.
    """

    task: str
    inputs: ClassVar[Mapping[str, Mapping[int, str]]] = {}
    outputs: ClassVar[Mapping[str, Mapping[int, str]]]
    difference_name: str
    tolerance: float
    harmless_cause = ""
    one_at_a_time = False
    metadata: Mapping[str, Any] = MappingProxyType({})
    counted = ""

    def __init__(self, net: nn.Module, left_out: str = "") -> None:
        super().__init__()
        self.net, self.left_out = net, left_out

    def difference(self, outputs: Mapping[str, Tensor], predicted: Any) -> float:
        """Return the difference between a file's outputs and the task's prediction for one image."""
        raise NotImplementedError(f"{type(self).__name__} does not define difference(outputs, predicted)")

    def count(self, predicted: Any) -> int:
        """Return the number of objects in the task's prediction for one image, see `counted`."""
        return 1

    def example(self, preprocessing: Preprocessing, count: int) -> tuple[Tensor, ...]:
        """Return inputs for `count` images of the training images' size. An image's inputs do not depend on `count`."""
        raise NotImplementedError(f"{type(self).__name__} does not define example(preprocessing, count)")

    def expected(self, task: Any, *inputs: Tensor) -> Any:
        """Return the task's output for the inputs of one image. `difference` gets it as `predicted`."""
        raise NotImplementedError(f"{type(self).__name__} does not define expected(task, *inputs)")


class _Adapter:
    """Give a plain LightningModule the interface of `Task`. Attributes that the module lacks come from `Task`.

    There is no `Evaluation`, since the module has its own validation and test steps.
    """

    latest_evaluation = None  # even if the module has an attribute of this name

    def __init__(self, module: L.LightningModule) -> None:
        self.module = module

    def has(self, method: str) -> bool:
        return method not in ("evaluate", "evaluation") and callable(getattr(self.module, method, None))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name) if hasattr(self.module, name) else getattr(Task, name)


def as_task(module: L.LightningModule) -> Any:
    """Return the module itself if it is a `Task`, else an adapter with the same interface."""
    return module if isinstance(module, Task) else _Adapter(module)
