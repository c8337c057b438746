import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kit.data import Batch
from project.classification import CNN, Classifier

SHORT = ["--trainer.limit_train_batches", "2", "--trainer.max_epochs", "1", "--model.net.widths", "[4]"]


def classifier(**options) -> Classifier:
    return Classifier(lambda **sizes: CNN(widths=[4], **sizes), 3, 1, ["cat", "dog", "owl"], **options)


def test_pictures_of_a_tiny_run(tiny_run):
    events = EventAccumulator(str(tiny_run)).Reload()
    samples = {"samples/first_batch", "samples/validation", "samples/worst"}
    assert set(events.Tags()["images"]) == {*samples, "validation/confusion", "validation/accuracy"}


def test_mixed_images_are_drawn_with_their_shares(fit, monkeypatch):
    targets = []
    monkeypatch.setattr(
        Classifier, "draw", lambda self, image, _, target: targets.append(target) or image.expand(3, -1, -1)
    )
    fit(*SHORT, "--model.mixing+=torchvision.transforms.v2.MixUp", "--trainer.limit_val_batches", "0")
    shares = torch.stack(targets)
    assert shares.shape == (16, 10) and torch.allclose(shares.sum(1), torch.ones(16))
    assert ((shares > 0).sum(1) <= 2).all() and (shares > 0).sum() > 16


def test_worst_images_and_accuracy_of_classes():
    task = classifier().eval()
    logits = torch.tensor([[9.0, 0, 0], [0, 9, 0], [0, 9, 0], [0, 0, 5]])
    task.forward = lambda images: logits
    targets = torch.tensor([0, 1, 0, 0])
    evaluation = task.evaluation("val")
    task.measure(evaluation, Batch(torch.zeros(4, 1, 8, 8), targets, torch.arange(4)))
    name, losses = evaluation.badness()
    assert name == "loss" and losses.argsort(descending=True).tolist()[:2] == [2, 3]
    assert losses[2] == pytest.approx(9, abs=0.01)
    details = evaluation.details()
    assert details["confusion"].tolist() == [[1, 1, 1], [0, 1, 0], [0, 0, 0]]
    assert details["by_class"] == {"accuracy/cat": pytest.approx(1 / 3), "accuracy/dog": 1}
