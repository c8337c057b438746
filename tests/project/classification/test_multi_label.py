"""Images with several labels: the loss, the thresholds and what is predicted."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from kit.data import Batch
from kit.ground.errors import UserError
from project.classification import CNN, Classifier, DigitScenes, MultiLabelClassifier

TARGETS = torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 1]])
BATCH = Batch(torch.rand(5, 3, 8, 9), TARGETS, torch.arange(5))


def classifier(fn: str = "fit", **options) -> MultiLabelClassifier:
    torch.manual_seed(0)
    net = lambda **sizes: CNN(widths=[8, 16], **sizes)  # noqa: E731
    task = MultiLabelClassifier(net=net, num_classes=3, in_channels=3, class_names=["a", "b", "c"], **options).eval()
    task.trainer = SimpleNamespace(state=SimpleNamespace(fn=fn), sanity_checking=False)
    task.log = task.log_dict = lambda *_, **__: None
    return task


def test_loss_is_the_mean_over_images_and_classes():
    task = classifier()
    logits = task(BATCH.images)
    expected = F.binary_cross_entropy_with_logits(logits, TARGETS)
    assert torch.allclose(task.training_step(BATCH, 0), expected)
    smoothed = classifier(label_smoothing=0.2).training_step(BATCH, 0)
    assert torch.allclose(smoothed, F.binary_cross_entropy_with_logits(logits, 0.8 * TARGETS + 0.1))
    weighted = classifier(weighted=True, class_counts=[10, 20, 0])
    weights = torch.tensor([1.0, 0.5, 0.0])
    losses = F.binary_cross_entropy_with_logits(logits, TARGETS, reduction="none")
    assert torch.allclose(weighted.training_step(BATCH, 0), (losses * weights).sum() / (5 * 1.5))


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.3, "weighted": True, "class_counts": [10, 20, 5]}])
def test_loss_terms_add_up_over_the_parts_of_a_batch(options):
    task = classifier(**options)
    parts = [Batch(BATCH.images[keys], TARGETS[keys], keys) for keys in torch.arange(5).split([1, 4])]
    sums, divisors = (sum(terms) for terms in zip(*map(task.loss_terms, parts), strict=True))
    assert torch.allclose(sums / divisors, task.training_step(BATCH, 0))


@pytest.mark.parametrize("mixing", [v2.MixUp(alpha=0.4), v2.CutMix()])
def test_mixed_image_has_mixed_labels(mixing):
    seen = {}
    task = classifier(mixing=[mixing])
    task.loss_terms = lambda batch: seen.update(batch=batch) or (torch.ones(1), torch.ones(1))
    images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 12, 8).contiguous()
    targets = torch.tensor([[1.0, 0, 1], [0, 0, 1]])
    task.training_step(Batch(images, targets, torch.arange(2)), 0)
    shares = 1 - seen["batch"].images.mean((1, 2, 3))  # of the first image
    expected = torch.stack([shares, torch.zeros(2), torch.ones(2)], 1)
    assert torch.allclose(seen["batch"].targets, expected, atol=1e-5)


def validate(task, logits):
    task.forward = lambda images: logits[: len(images)]
    task.on_validation_epoch_start()
    task.validation_step(BATCH, 0)
    task.on_validation_epoch_end()


def test_validation_chooses_thresholds_that_prediction_and_test_use():
    task = classifier()
    logits = torch.tensor([[3.0, -1, -2], [-3, -2, -4], [-1, 2, -3], [2, 1, -1], [-2, -3, -2]])
    validate(task, logits)
    assert torch.allclose(task.thresholds, torch.stack([logits[k].sigmoid() for k in (3, 3, 4)]).diagonal() / 2
                          + torch.stack([logits[k].sigmoid() for k in (2, 0, 2)]).diagonal() / 2)  # fmt: skip
    chosen = task.thresholds.clone()
    labels = [list(prediction.labels) for prediction in task.predict(BATCH.images, [], [])]
    assert labels == [["a", "c"], [], ["b"], ["a", "b", "c"], ["c"]]
    task.trainer.state.fn = "validate"  # such as on other data
    validate(task, -logits)
    assert torch.equal(task.thresholds, chosen) and torch.equal(task.evaluation("test").thresholds, chosen)
    assert task.exported().metadata == {"thresholds": chosen.tolist()}


def test_checkpoint_has_the_chosen_thresholds_even_if_the_buffer_is_averaged():
    """At the end of training, `EMA` replaces the buffer by its average."""
    task = classifier()
    checkpoint = {"state_dict": {"thresholds": torch.zeros(3)}}
    task.on_save_checkpoint(checkpoint)
    assert checkpoint["state_dict"]["thresholds"].tolist() == [0.5] * 3  # before the first validation
    validate(task, torch.tensor([[3.0, -1, -2], [-3, -2, -4], [-1, 2, -3], [2, 1, -1], [-2, -3, -2]]))
    chosen = task.thresholds.clone()
    task.thresholds.fill_(0.25)
    task.on_save_checkpoint(checkpoint)
    assert torch.equal(checkpoint["state_dict"]["thresholds"], chosen)


def test_task_for_the_other_kind_of_data_is_named():
    net = lambda **sizes: CNN(widths=[8], **sizes)  # noqa: E731
    with pytest.raises(UserError, match=r"several labels.*classification_multilabel\.yaml.*label_separator null"):
        Classifier(net, 3, 3, several_labels=True)
    with pytest.raises(UserError, match=r"one label.*classification_folder\.yaml"):
        MultiLabelClassifier(net=net, num_classes=3, in_channels=3, several_labels=False)


def test_scenes_have_the_labels_of_their_digits():
    data = DigitScenes(scenes=60, image_size=(40, 56))
    data.setup("fit")
    sizes = {split: len(samples) for split, samples in data.samples.items()}
    assert sizes == {"train": 60, "val": 6, "test": 12} and data.several_labels
    targets = data.samples["train"].targets
    assert targets.shape == (60, 10) and targets.sum(1).min() >= 1 and targets.sum(1).max() > 2
    assert data.class_counts == targets.sum(0).long().tolist()
    strata = data.strata(data.samples["train"])
    for row, stratum in zip(targets, strata.tolist(), strict=True):
        counts = [data.class_counts[k] for k in row.nonzero()[:, 0].tolist()]
        assert data.class_counts[stratum - 1] == min(counts) and row[stratum - 1] == 1
    batch = next(iter(data.train_dataloader()))
    assert batch.targets.shape == (60, 10) and batch.targets.dtype == torch.float
