import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kit.data import Batch
from project.classification import CNN, Classifier


def classifier(**options) -> Classifier:
    return Classifier(lambda **sizes: CNN(widths=[4], **sizes), 3, 1, ["cat", "dog", "owl"], **options)


def test_pictures_of_a_tiny_run(tiny_run):
    events = EventAccumulator(str(tiny_run)).Reload()
    samples = {"samples/first_batch", "samples/predictions", "samples/worst"}
    charts = {f"validation/{name}" for name in ("confusion", "reliability", "precision_recall", "accuracy")}
    assert charts | samples <= set(events.Tags()["images"])


def test_the_worst_image_has_the_highest_loss_and_classes_their_accuracy():
    task = classifier().eval()
    logits = torch.tensor([[9.0, 0, 0], [0, 9, 0], [0, 9, 0], [0, 0, 5]])
    task.forward = lambda images: logits
    targets = torch.tensor([0, 1, 0, 0])
    evaluation = task.evaluation("val")
    task.measure(evaluation, Batch(torch.zeros(4, 1, 8, 8), targets, torch.arange(4)))
    name, losses = evaluation.badness()
    assert name == "loss" and losses.argsort(descending=True).tolist()[:2] == [2, 3]
    assert losses[2] == pytest.approx(9, abs=0.01)
    assert evaluation.charts()["confusion"].counts.tolist() == [[1, 1, 1], [0, 1, 0], [0, 0, 0]]
    values = evaluation.compute(by_class=True)
    assert (values["accuracy/cat"], values["accuracy/dog"]) == (pytest.approx(1 / 3), 1)
    assert "accuracy/owl" not in values
