"""How well objects are found."""

from collections.abc import Mapping, Sequence

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from kit.boxes.metric import COCO_LIMIT, Seen, classes_of, coco, most_of_a_class, precision_by_image, values_of, wrong
from kit.boxes.pictures import LEAST_SCORE
from kit.evaluation import Details, Evaluation


class BoxEvaluation(Evaluation):
    """Average precision as COCO defines it (`map`, `map_50`, ...), in the original images' pixels, on the boxes as
    annotated.

    `outputs` are one dict an image, as `Detector.predict` returns them, and `targets` those of a batch.

    Args:
        class_names: the names of the labels 1 to K.
        limit: the largest number of detections of a class in an image that count.
    """

    score_name = "map"
    unmeasured = "no validation image that was used has a box"

    def __init__(self, class_names: Sequence[str], limit: int = COCO_LIMIT) -> None:
        super().__init__(class_names)
        self.limit = limit

    def entries(self, outputs: Sequence[Mapping[str, Tensor]], targets: Sequence[Mapping[str, Tensor]]) -> list[Seen]:
        seen = []
        for detected, target in zip(outputs, targets, strict=True):
            annotated = {"boxes": target["annotated"], "labels": target["labels"], "iscrowd": target["crowd"].long()}
            seen.append(Seen(dict(detected), {key: value.cpu() for key, value in annotated.items()}))
        return seen

    def compute(self, by_class: bool = False) -> dict[str, float]:
        most = max(map(most_of_a_class, self.rows), default=0)
        if most > self.limit:
            rank_zero_warn(
                f"an image has {most} boxes of one class, but only {self.limit} detections of a class count, since no "
                "training image has more; average precision cannot reach 1 here"
            )
        return values_of(self.once(self._coco), self.class_names, by_class)

    def shares(self) -> Tensor:
        """Of each image's own average precision: resampled, `map` itself would take minutes."""
        values = precision_by_image(self.rows, len(self.class_names), self.limit)
        return torch.stack([values.nan_to_num(), values.isfinite().float()], 1)[..., None]

    def badness(self) -> tuple[str, Tensor]:
        return "wrong", torch.tensor([wrong(image, LEAST_SCORE) for image in self.rows])

    def details(self) -> Details:
        return classes_of(self.rows, self.once(self._coco), self.class_names)

    def _coco(self) -> dict[str, Tensor]:
        return coco(self.rows, self.limit)
