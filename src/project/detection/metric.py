"""How good detections are: average precision, as COCO defines it."""

import numpy as np
import torch
import torch.distributed
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

# COCO's own. torchmetrics rounds them to 32 bits, and a recall of exactly 0.05 then counts as less.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10).tolist()
RECALLS = np.linspace(0, 1, 101).tolist()
KEYS = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")


class AveragePrecision:
    """Collects detections and annotations of images, and measures them over all processes.

    torchmetrics cannot gather lists of different lengths, hence the gathering here; the images come in the order of
    their keys, so that as many processes as you like give the same figures.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._images: list[tuple[int, dict[str, Tensor], dict[str, Tensor]]] = []

    def update(self, key: int, detected: dict[str, Tensor], annotated: dict[str, Tensor]) -> None:
        """One image.

        Args:
            key: its place in its split.
            detected: `boxes` Float[N 4] XYXY, `scores` Float[N], `labels` Long[N].
            annotated: `boxes`, `labels` and `iscrowd` Long[N]: what is found within a crowd counts neither way.
        """
        self._images.append((key, _on_cpu(detected), _on_cpu(annotated)))

    def compute(self, class_names: list[str], by_class: bool = False) -> dict[str, float]:
        """`map`, `map_50`, ...; by class also `map/NAME` and `map_50/NAME`. What has nothing to measure is left out."""
        images = sorted(self._gathered(), key=lambda image: image[0])
        metric = MeanAveragePrecision(
            backend="faster_coco_eval",
            iou_thresholds=IOU_THRESHOLDS,
            rec_thresholds=RECALLS,
            extended_summary=True,
            sync_on_compute=False,
        )
        metric.warn_on_many_detections = False
        metric.update([detected for _, detected, _ in images], [annotated for _, _, annotated in images])
        result = metric.compute()
        values = {key: float(result[key]) for key in KEYS}
        if by_class and "precision" in result:
            # [IoU, recall, class, area, most detections]: all areas and 100 detections.
            precision = result["precision"][:, :, :, 0, -1]
            for place, label in enumerate(result["classes"].reshape(-1).tolist()):
                name = class_names[label - 1]
                values[f"map/{name}"] = _mean(precision[:, :, place])
                values[f"map_50/{name}"] = _mean(precision[0, :, place])
        return {key: value for key, value in values.items() if value >= 0}

    def _gathered(self) -> list[tuple[int, dict[str, Tensor], dict[str, Tensor]]]:
        if not torch.distributed.is_initialized():
            return self._images
        everyones: list = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(everyones, self._images)
        return [image for images in everyones for image in images]


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.cpu() for key, value in tensors.items()}


def _mean(precision: Tensor) -> float:
    """-1 where there is nothing to measure, as in COCO's own summary."""
    known = precision[precision >= 0]
    return float(known.mean()) if len(known) else -1.0
