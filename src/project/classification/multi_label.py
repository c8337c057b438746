"""Train a net to predict all labels of an image."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kit.data import Batch
from kit.labels.evaluation import MultiLabelEvaluation
from kit.labels.predictions import (
    ExportedMultiLabelClassifier,
    MultiLabelClassification,
    MultiLabelPredictions,
    draw_several_labels,
)
from kit.task import Sizes
from project.classification.task import Classifier


class MultiLabelClassifier(Classifier):
    """Minimise the mean binary cross-entropy of all classes, for images with any number of labels.

    `kit.labels.evaluation` has the metrics: mean average precision, and macro F1. See `Classifier` for the arguments.
    Label smoothing moves the targets 0 and 1 towards 0.5.

    Attributes:
        thresholds: Float[K]. A label is predicted if its probability is at least its threshold. Each validation
            during `fit` sets them to the values with the highest F1 score of each class. They are saved in checkpoints.
    """

    monitor, mode = "val/map", "max"
    Predictions = MultiLabelPredictions
    takes_several_labels = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.register_buffer("thresholds", torch.full((self.num_classes,), 0.5))

    def loss_terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        targets = batch.targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        losses = F.binary_cross_entropy_with_logits(self(batch.images), targets, reduction="none")  # [B K]
        weights = torch.ones_like(losses[0]) if self.class_weights is None else self.class_weights
        return (losses * weights).sum().view(1), (len(batch.keys) * weights.sum()).view(1)

    def evaluation(self, split: str) -> MultiLabelEvaluation:
        # During `fit`, choose thresholds for the training images and for the validation images separately. The verdict
        # on overfitting (`kit.safeguards.overfitting`) compares the two F1 scores, so compute both in the same way.
        chooses_thresholds = self.trainer.state.fn == "fit"
        return MultiLabelEvaluation(self.class_names, None if chooses_thresholds else self.thresholds)

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.thresholds.copy_(self.latest_evaluation.thresholds)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Save the thresholds that the latest validation has chosen. `EMA` would save an average of this buffer.
        thresholds = self.latest_evaluation.thresholds if self.latest_evaluation else self.thresholds
        checkpoint["state_dict"]["thresholds"] = thresholds.to(self.thresholds)

    def predict(self, images: Tensor, sizes: Sizes, unpadded_sizes: Sizes) -> list[MultiLabelClassification]:
        """Find the labels of images, Float[B C H W]. The sizes are not used."""
        probabilities = self(images).float().sigmoid()
        is_predicted = (probabilities >= self.thresholds).cpu()
        return [
            MultiLabelClassification({self.class_names[k]: float(row[k]) for k in labels.nonzero()[:, 0].tolist()}, row)
            for row, labels in zip(probabilities.cpu(), is_predicted, strict=True)
        ]

    def exported(self) -> ExportedMultiLabelClassifier:
        """Return the module that `project.export` writes to a file: the net and a sigmoid."""
        return ExportedMultiLabelClassifier(self.net, self.thresholds.tolist())

    def draw(self, image: Tensor, predicted: MultiLabelClassification | None = None, target: Any = None) -> Tensor:
        return draw_several_labels(image, self.class_names, predicted, target)
