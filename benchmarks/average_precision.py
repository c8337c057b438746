"""Time of mean average precision with its figures by class, against faster-coco-eval alone on the same arrays.

    python benchmarks/average_precision.py [--images 5000] [--rounds 3]

Made boxes by seed: 20 classes, up to 20 boxes an image, 100 detections an image, some of them boxes moved a little.
Both are given the tensors that a net returns. Wanted: a ratio of at most 1.2, and equal figures.
"""

import argparse
import statistics
import time
from importlib.util import find_spec

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster
from torch import Tensor

CLASSES, BOXES, DETECTIONS, SIZE = 20, 20, 100, 640
Image = tuple[dict[str, Tensor], dict[str, Tensor]]


def made(count: int) -> list[Image]:
    """Detections and annotations of each image, as `ImageBoxes` has them."""
    draw = torch.Generator().manual_seed(0)
    images = []
    for _ in range(count):
        boxes = int(torch.randint(1, BOXES + 1, (), generator=draw))
        sizes = torch.rand(boxes, 2, generator=draw) * 200 + 8
        corners = torch.rand(boxes, 2, generator=draw) * (SIZE - sizes)
        annotated = torch.cat([corners, corners + sizes], 1)
        labels = torch.randint(1, CLASSES + 1, (boxes,), generator=draw)
        of = torch.randint(boxes, (DETECTIONS,), generator=draw)
        moved = annotated[of] + torch.randn(DETECTIONS, 4, generator=draw) * 12
        low, high = moved[:, :2], torch.maximum(moved[:, 2:], moved[:, :2] + 1)
        wrong = torch.rand(DETECTIONS, generator=draw) < 0.2
        guessed = torch.where(wrong, torch.randint(1, CLASSES + 1, (DETECTIONS,), generator=draw), labels[of])
        scores = torch.rand(DETECTIONS, generator=draw)
        crowd = torch.zeros(boxes, dtype=torch.long)
        detected = {"boxes": torch.cat([low, high], 1), "scores": scores, "labels": guessed}
        images.append((detected, {"boxes": annotated, "labels": labels, "iscrowd": crowd}))
    return images


def ours(images: list[Image]) -> dict[str, float]:
    from kit.boxes.evaluation import BoxEvaluation

    evaluation = BoxEvaluation([f"class {k}" for k in range(1, CLASSES + 1)])
    detected, annotated = zip(*images, strict=True)
    targets = [
        {"original_boxes": image["boxes"], "labels": image["labels"], "crowd": image["iscrowd"].bool()}
        for image in annotated
    ]
    evaluation.update(torch.arange(len(images)), detected, targets)
    return evaluation.compute(by_class=True)


def alone(images: list[Image]) -> dict[str, float]:
    """What a script that calls faster-coco-eval does."""
    quiet = {"print_function": lambda *_: None}
    rows, annotations = [], []
    for key, (detected, annotated) in enumerate(images):
        place = torch.full((len(detected["scores"]), 1), key)
        sides = torch.cat([detected["boxes"][:, :2], detected["boxes"][:, 2:] - detected["boxes"][:, :2]], 1)
        rows.append(torch.cat([place, sides, detected["scores"][:, None], detected["labels"][:, None]], 1))
        for (left, top, right, bottom), label in zip(
            annotated["boxes"].tolist(), annotated["labels"].tolist(), strict=True
        ):
            box = [left, top, right - left, bottom - top]
            own = {"id": len(annotations) + 1, "image_id": key, "category_id": label, "iscrowd": 0}
            annotations.append({**own, "bbox": box, "area": box[2] * box[3]})
    truth = COCO(print_function=quiet["print_function"])
    truth.dataset = {
        "images": [{"id": key} for key in range(len(images))],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, CLASSES + 1)],
        "annotations": annotations,
    }
    truth.createIndex()
    found = truth.loadRes(torch.cat(rows).numpy().astype(np.float64))
    evaluation = COCOeval_faster(truth, found, iouType="bbox", **quiet)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    values = {"map": float(evaluation.stats[0]), "map_50": float(evaluation.stats[1])}
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    for k in range(CLASSES):
        values[f"map/class {k + 1}"] = float(precision[:, :, k].mean())
        values[f"map_50/class {k + 1}"] = float(precision[0, :, k].mean())
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000, help="so many (5000)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each (3)")
    options = parser.parse_args()
    if find_spec("project.detection") is None:
        print("average precision: src/project/detection is not here")
        return
    images = made(options.images)
    ours(images[:10])  # its imports
    times: dict[str, list[float]] = {"ours": [], "alone": []}
    for _ in range(options.rounds):
        figures = {}
        for name, measure in (("ours", ours), ("alone", alone)):
            started = time.perf_counter()
            figures[name] = measure(images)
            times[name].append(time.perf_counter() - started)
    apart = max(abs(figures["ours"][key] - value) for key, value in figures["alone"].items())
    ratio = statistics.median(a / b for a, b in zip(times["ours"], times["alone"], strict=True))
    seconds = [statistics.median(each) for each in times.values()]
    print(f"mAP of {options.images} images: {seconds[0]:.1f} s, alone {seconds[1]:.1f} s, ratio {ratio:.2f} (<= 1.2)")
    print(f"the figures, {len(figures['alone'])} of them, are apart by at most {apart:.1e}")


if __name__ == "__main__":
    main()
