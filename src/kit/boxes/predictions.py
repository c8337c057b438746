"""Convert the predictions of a detector to pixels of the original image, and write and export them."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from kit.boxes.pictures import draw_boxes
from kit.data.decode import decode
from kit.ground import drawing
from kit.ground.files import replacing
from kit.ground.ranges import Share
from kit.task import ExportedModule

SCORE_MARGIN = 0.01  # a box may be missing in one output if its score is this close to the net's threshold


def to_original(detected: Mapping[str, Tensor], size: Sequence[Any], unpadded_size: Sequence[Any]) -> dict[str, Tensor]:
    """Convert detections to pixels of the original image, clip them to it, and drop detections in the padding.

    Args:
        detected: `boxes` Float[N 4] XYXY, `scores` Float[N] and `labels` Long[N].
        size: the height and width of the original image: numbers, or scalar tensors while a graph is recorded.
        unpadded_size: the height and width of the top left part of the net's input that the original fills.

    Returns:
        the remaining detections, in the form of `detected`.
    """
    original, content = (torch.stack([*map(torch.as_tensor, sides)]).double() for sides in (size, unpadded_size))
    boxes = detected["boxes"].float()
    factor, limit = (original / content).flip(0).to(boxes), original.flip(0).to(boxes)  # x and y
    corners = boxes.view(-1, 2, 2) * factor  # [N, top left and bottom right, x and y]
    corners = torch.minimum(corners, limit).clamp(min=0)
    visible = (corners[:, 1] > corners[:, 0]).all(1)
    converted = {"boxes": corners.flatten(1), "scores": detected["scores"].float(), "labels": detected["labels"]}
    return {key: value[visible] for key, value in converted.items()}


class BoxPredictions:
    """Write `predictions.json` and, for each image, `pictures/NAME.jpg`.

    The JSON file is a list of results in COCO's format, each with two more keys: the path of the image (`file_name`)
    and the name of the class (`category`). `image_id` is NAME. As in COCO, it is an int if NAME is a number. It stays a
    string if an earlier image has the same number, such as `1` after `0001`. `category_id` counts the classes from 1,
    in their order.

    Args:
        folder: the folder of the results.
        class_names: the names of the model's classes.
        pictures: whether to draw the boxes.
        score: the lowest score of the boxes that are drawn. Unless another one is given, the command `predict` passes
            the threshold that training chose. The JSON file has all boxes.
    """

    FOLDERS = ("pictures",)

    def __init__(self, folder: Path, class_names: Sequence[str], pictures: bool = True, score: Share = 0.5) -> None:
        self.class_names, self.score = class_names, score
        self.pictures = folder / "pictures" if pictures else None
        self.path, self.stack = folder / "predictions.json", ExitStack()
        temporary = self.stack.enter_context(replacing(self.path))
        # Bytes of file names that are not UTF-8 become escapes such as `\udce9`, which are valid in JSON.
        self.file = temporary.open("w", encoding="utf-8", errors="backslashreplace")
        self.names_by_number: dict[int, str] = {}
        self.separator = "["  # the text to write before the next result

    def write_files(self, file: Path, name: str, prediction: dict[str, Tensor]) -> None:
        if self.pictures is not None:
            drawn = draw_boxes(decode(file, 3, None), self.class_names, prediction, min_score=self.score)
            drawing.save_picture(drawn, self.pictures / f"{name}.jpg")

    def add(self, file: Path, name: str, prediction: dict[str, Tensor]) -> None:
        number = int(name) if name.isascii() and name.isdecimal() else None
        is_unique = number is not None and self.names_by_number.setdefault(number, name) == name
        boxes = box_convert(prediction["boxes"], "xyxy", "xywh").double().round(decimals=2).tolist()
        for box, score, label in zip(boxes, prediction["scores"].tolist(), prediction["labels"].tolist(), strict=True):
            result = {
                "image_id": number if is_unique else name,
                "file_name": str(file),
                "category_id": label,
                "category": self.class_names[label - 1],
                "bbox": box,
                "score": round(score, 6),
            }
            self.file.write(f"{self.separator}\n{json.dumps(result, ensure_ascii=False)}")
            self.separator = ","

    def finish(self) -> list[Path]:
        self.file.write("[]\n" if self.separator == "[" else "\n]\n")
        self.file.close()
        self.stack.close()
        return [self.path, *([self.pictures] if self.pictures and self.pictures.is_dir() else [])]


class ExportedDetector(ExportedModule):
    """Convert an image to `boxes` Float[N 4] XYXY in pixels of the original, `scores` Float[N] and `labels` Long[N].

    Labels are 1 to K. The highest score is first. Each box that an exported file returns must match one that PyTorch
    returns, and the reverse. Matching boxes have the same class, an IoU of at least 0.99, and scores that differ by at
    most 0.01. Boxes whose scores are near the net's threshold need no match.
    """

    task = "detection"
    outputs: ClassVar = {name: {0: "objects"} for name in ("boxes", "scores", "labels")}
    one_at_a_time = True  # images differ in their number of boxes
    difference_name = "largest difference between matching boxes (1 - IoU, or the difference of their scores)"
    tolerance = 0.01
    harmless_cause = (
        "many boxes of a barely trained net have the same score, so rounding decides which remain: train longer"
    )
    counted = "boxes"

    def forward(self, images: Tensor, size: Sequence[Any], unpadded_size: Sequence[Any]) -> tuple[Tensor, ...]:
        (detected,) = self.net(images)
        order = detected["scores"].argsort(descending=True)
        detected = to_original(
            {key: detected[key][order] for key in ("boxes", "scores", "labels")}, size, unpadded_size
        )
        return detected["boxes"], detected["scores"], detected["labels"]

    def count(self, predicted: Mapping[str, Tensor]) -> int:
        return int((predicted["scores"] > self._threshold(predicted) + SCORE_MARGIN).sum())

    def difference(self, outputs: Mapping[str, Tensor], predicted: Mapping[str, Tensor]) -> float:
        """Return the largest of `distances`, or infinity if a number is not finite."""
        if not all(boxes[key].isfinite().all() for boxes in (outputs, predicted) for key in ("boxes", "scores")):
            return torch.inf
        return float(max(self.distances(outputs, predicted), default=0.0))

    def distances(self, outputs: Mapping[str, Tensor], predicted: Mapping[str, Tensor]) -> Tensor:
        """Return the distance of each box to its counterpart: the boxes of `outputs`, then of `predicted`, Float[N].

        The distance is 1 - IoU or the difference of the scores, whichever is larger. It is 1 if no box of its class
        overlaps. Boxes whose scores are not clearly above the threshold are left out.
        """
        min_score = max(self._threshold(outputs), self._threshold(predicted)) + SCORE_MARGIN
        return torch.cat([_distances(outputs, predicted, min_score), _distances(predicted, outputs, min_score)])

    def _threshold(self, detected: Mapping[str, Tensor]) -> float:
        """Return the net's score threshold, or the lowest score if the net may have dropped lower ones.

        The net returns at most `detections_per_img` detections, those with the highest scores. Those in the padding are
        dropped later. If at least half of this number remain, the net is assumed to have dropped some.
        """
        # The attributes are torchvision's. Nets without them have the threshold 0.
        head = next((module for module in self.net.modules() if hasattr(module, "detections_per_img")), None)
        if head is None:
            return 0.0
        may_be_full = len(detected["scores"]) >= head.detections_per_img / 2
        return float(detected["scores"].min()) if may_be_full else head.score_thresh


def _distances(detected: Mapping[str, Tensor], others: Mapping[str, Tensor], min_score: float) -> Tensor:
    """Return the distance of each detection above `min_score` to the nearest of `others` that has no match yet.

    The distance is 1 if no such detection of the same class overlaps.
    """
    boxes, scores, labels = (detected[key][detected["scores"] > min_score] for key in ("boxes", "scores", "labels"))
    costs = torch.maximum(1 - box_iou(boxes, others["boxes"]), (scores[:, None] - others["scores"]).abs())
    costs[labels[:, None] != others["labels"]] = 1
    distances = torch.ones(len(costs))
    for row in range(len(costs) if costs.numel() else 0):
        distances[row], nearest = costs[row].min(0)
        if distances[row] < 1:
            costs[:, nearest] = 1
    return distances
