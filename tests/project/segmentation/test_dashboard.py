import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from project.segmentation import Segmenter


def test_a_tiny_run_has_its_pictures(tiny_run):
    tags = EventAccumulator(str(tiny_run)).Reload().Tags()
    samples = {"samples/first_batch", "samples/validation", "samples/worst"}
    assert set(tags["images"]) == {*samples, "validation/confusion", "validation/iou"}


def test_the_worst_image_and_the_classes():
    task = Segmenter(lambda **sizes: torch.nn.Identity(), 3, 1, ["sky", "road", "car"])
    evidence = [
        torch.tensor([[8, 0, 0], [8, 0, 0]]),
        torch.tensor([[1, 1, 0], [4, 2, 0]]),
        torch.tensor([[0, 0, 0], [0, 0, 0]]),  # all of it ignored
    ]
    name, values = task.badness(evidence)
    assert name == "1 - IoU" and values.tolist() == pytest.approx([0, 1 - 3 / 8, 0])
    assert task.details(evidence) == {"by_class": {"iou/sky": 9 / 12, "iou/road": 1 / 2}}
