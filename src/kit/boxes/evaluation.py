"""The metrics of detection."""

from collections.abc import Sequence

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from kit.boxes import average_precision
from kit.boxes.average_precision import MAX_DETECTIONS, ImageBoxes
from kit.boxes.predictions import MIN_SCORE
from kit.evaluation import Details, Evaluation


class BoxEvaluation(Evaluation):
    """Average precision (`map`, `map_50`, ...) as COCO defines it, in pixels of the original images.

    `outputs` has a dict for each image, as `Detector.predict` returns it. `targets` are the targets of a batch, see
    `kit.boxes.targets`.

    Args:
        class_names: the names of the labels 1 to K.
        max_detections: for each class and image, only this number of detections counts, those with the highest scores.
    """

    score_name = "map"
    unmeasured = "no validation image that was used has a box"

    def __init__(self, class_names: Sequence[str], max_detections: int = MAX_DETECTIONS) -> None:
        super().__init__(class_names)
        self.max_detections = max_detections

    def entries(self, outputs: list[dict[str, Tensor]], targets: list[dict[str, Tensor]]) -> list[ImageBoxes]:
        entries = []
        for detected, target in zip(outputs, targets, strict=True):
            annotated = {"boxes": target["annotated"], "labels": target["labels"], "iscrowd": target["crowd"].long()}
            entries.append(ImageBoxes(dict(detected), {key: value.cpu() for key, value in annotated.items()}))
        return entries

    def compute(self, by_class: bool = False) -> dict[str, float]:
        highest = max((int(image.labels.bincount().max()) for image in self.rows if len(image.labels)), default=0)
        if highest > self.max_detections:
            why = f"only {self.max_detections} detections of a class count, since no training image has more boxes"
            rank_zero_warn(f"map cannot reach 1: an image has {highest} boxes of one class, but {why}")
        return average_precision.compute_metrics(self.once(self._summary), self.class_names, by_class)

    def shares(self) -> Tensor:
        """Return the average precision of each image as numerator and 1 as denominator, Float[N 2 1].

        Both are 0 for an image without boxes. These are not exactly the contributions to `map`, but resampling `map`
        itself would take minutes.
        """
        values = average_precision.precision_by_image(self.rows, len(self.class_names), self.max_detections)
        return torch.stack([values.nan_to_num(), values.isfinite().float()], 1)[..., None]

    def badness(self) -> tuple[str, Tensor]:
        return "wrong", torch.tensor([average_precision.error_share(image, MIN_SCORE) for image in self.rows])

    def details(self) -> Details:
        curves = average_precision.compute_curves(self.rows, self.once(self._summary), self.class_names)
        return {"precision_recall": curves}

    def _summary(self) -> dict[str, Tensor]:
        return average_precision.coco_summary(self.rows, self.max_detections)
