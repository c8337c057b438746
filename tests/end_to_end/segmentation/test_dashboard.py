import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kit.masks.evaluation import MaskEvaluation


def test_pictures_of_a_tiny_run(tiny_run):
    tags = EventAccumulator(str(tiny_run)).Reload().Tags()
    samples = {"samples/first_batch", "samples/predictions", "samples/worst"}
    charts = {"validation/confusion", "validation/iou", "validation/iou_by_size"}
    assert charts | samples <= set(tags["images"])


def test_worst_images_and_iou_of_classes():
    evaluation = MaskEvaluation(["sky", "road", "car"])
    predicted = torch.tensor([[[0, 0], [0, 0]], [[0, 1], [1, 0]], [[2, 2], [2, 2]]])
    targets = torch.tensor([[[0, 0], [0, 0]], [[0, 0], [1, 255]], [[255, 255], [255, 255]]])  # the last is ignored
    logits = torch.nn.functional.one_hot(predicted, 3).permute(0, 3, 1, 2).float()
    evaluation.update(torch.arange(3), logits, targets)
    name, values = evaluation.badness()
    assert name == "1 - IoU" and values.tolist() == pytest.approx([0, 1 / 2, 0])
    values = {key: value for key, value in evaluation.compute(by_class=True).items() if key.startswith("iou/")}
    assert values == {"iou/sky": pytest.approx(5 / 6), "iou/road": 1 / 2}
    assert evaluation.charts()["confusion"].counts.tolist() == [[5, 1, 0], [0, 1, 0], [0, 0, 0]]
