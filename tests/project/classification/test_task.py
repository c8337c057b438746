import json
import re
import shutil

import pytest
import torch
from refused import assert_refused
from torch.nn import functional as F
from torchvision.transforms import v2

from kit.cli import verbs
from kit.data import Batch
from project.classification import CNN, Classifier

SHORT = ["--trainer.limit_train_batches", "4", "--model.net.widths", "[4]", "--model.net.depth", "1"]
SHORTER = [*SHORT, "--trainer.limit_val_batches", "1", "--trainer.limit_test_batches", "1"]


def classifier(num_classes: int = 6, **options) -> Classifier:
    torch.manual_seed(0)
    return Classifier(lambda **sizes: CNN(widths=[8, 16], **sizes), num_classes, 3, **options)


class Given(torch.nn.Module):
    """Logits that are given as if they were images."""

    def __init__(self, **_):
        super().__init__()
        self.head = torch.nn.Linear(1, 1)

    def forward(self, images):
        return images


def logged(logits: torch.Tensor, targets: torch.Tensor, cut: int) -> dict[str, float]:
    """What is reported after two batches, the first of `cut` samples."""
    task, values = Classifier(Given, logits.shape[1], 1), {}
    task.log_dict = lambda metrics: values.update({key: float(value) for key, value in metrics.items()})
    task.on_test_epoch_start()
    for start, end in ((0, cut), (cut, len(logits)), (0, 0)):  # the last as a process without samples gets it
        keys = torch.arange(start, end)
        task.test_step(Batch(logits[keys], targets[keys], keys), 0)
    task.on_test_epoch_end()
    return values


def test_metrics_of_known_logits():
    targets = torch.tensor([0, 1, 2, 3, 4, 5, 0, 1])
    predicted = torch.tensor([0, 1, 2, 3, 4, 5, 1, 5])
    logits = F.one_hot(predicted, 6).float() + 0.1 * F.one_hot(torch.tensor([1, 2, 3, 4, 5, 0, 0, 2]), 6)
    values = logged(logits, targets, cut=4)
    assert values["test/accuracy"] == pytest.approx(6 / 8)
    f1 = [2 / 3, 1 / 2, 1, 1, 1, 2 / 3]  # by hand: 2 TP / (2 TP + FP + FN)
    assert values["test/f1"] == pytest.approx(sum(f1) / 6)
    assert values["test/accuracy/0"] == values["test/accuracy/1"] == 0.5
    assert values["test/loss"] == pytest.approx(float(F.cross_entropy(logits, targets)))
    assert 6 / 8 <= values["test/accuracy_top5"] <= 1


def test_loss_with_smoothing_and_class_weights():
    task = classifier(3, label_smoothing=0.3, weighted=True, class_counts=[10, 20, 0])
    assert task.class_weights.tolist() == [1.0, 0.5, 0.0]
    task.log = lambda *_, **__: None
    images, targets = torch.rand(4, 3, 8, 9), torch.tensor([0, 1, 1, 0])
    logs, weights = task(images).log_softmax(1), torch.tensor([1.0, 0.5, 0.0])
    smooth = 0.7 * F.one_hot(targets, 3) + 0.1
    by_hand = -(smooth * weights * logs).sum() / weights[targets].sum()
    assert torch.allclose(task.training_step(Batch(images, targets, targets), 0), by_hand)


@pytest.mark.parametrize("mixing", [v2.MixUp(alpha=0.4), v2.CutMix(), v2.RandomChoice([v2.MixUp(), v2.CutMix()])])
def test_mixed_image_has_a_mixed_target(mixing):
    """An image of zeros and one of ones, of two classes: the share of ones is the share of that one's class."""
    seen = {}

    class Watched(Given):
        def forward(self, images):
            seen["images"] = images
            return images.mean((2, 3)).detach().requires_grad_()

    task = Classifier(Watched, 2, 2, mixing=[mixing])
    task.log = lambda *_, **__: None
    images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 2, 12, 8).contiguous()
    targets = torch.tensor([0, 1])
    shares = set()
    for step in range(8):
        torch.manual_seed(step)
        loss = task.training_step(Batch(images, targets, targets), step)
        ones = seen["images"].mean((1, 2, 3))
        logs = seen["images"].mean((2, 3)).log_softmax(1)
        by_hand = -(torch.stack([1 - ones, ones], 1) * logs).sum(1).mean()
        assert torch.allclose(loss, by_hand, atol=1e-5)
        shares.add(round(float(ones[0]), 4))
        torch.manual_seed(step)
        assert torch.equal(task.training_step(Batch(images, targets, targets), step), loss)
    assert len(shares) > 3
    task.evaluate(Batch(images, targets, targets))
    assert torch.equal(seen["images"], images)  # what is evaluated is never mixed


@pytest.mark.parametrize("apart", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["all at once", "each"])
def test_regularisation_by_command_line(fit, apart):
    """It changes what is learned."""
    each = {
        "nothing": [],
        "decay": ["--model.optimizer.weight_decay", "0.5"],
        "dropout": ["--model.net.dropout", "0.5"],
        "smoothing": ["--model.label_smoothing", "0.2"],
        "mixing": [f"--model.mixing+=torchvision.transforms.v2.{name}" for name in ("MixUp", "CutMix")],
        "augmentation": ["--data.augment+=torchvision.transforms.v2.RandAugment", "--data.augment.magnitude", "12"],
    }
    short = [*SHORTER, "--trainer.max_epochs", "1", "--model.schedule", "null"]
    heads = []
    everything = [word for words in each.values() for word in words]
    runs = list(each.values()) if apart else [[], everything]
    for options in runs:
        run = fit(*short, *options)
        heads.append(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]["net.head.weight"])
    assert len({tuple(head.flatten().tolist()) for head in heads}) == len(runs)
    assert all(head.isfinite().all() for head in heads)


@pytest.mark.slow
def test_overfitting_guard_does_not_change_training(fit):
    """Dropout, mixing and workers' seeds are drawn from the generator that it must leave alone."""
    options = [*SHORTER, "--trainer.max_epochs", "2", "--model.net.dropout", "0.5"]
    options += ["--model.mixing+=torchvision.transforms.v2.MixUp"]
    runs = [fit(*options, "--overfitting.enabled", enabled) for enabled in ("true", "false")]
    one, other = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in runs)
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    assert "overfitting/train_accuracy" in json.loads((runs[0] / "results.json").read_text())


def test_norms_and_biases_have_no_weight_decay():
    optimizer = classifier(schedule=None).configure_optimizers()
    assert all(p.ndim > 1 for p in optimizer.param_groups[0]["params"])
    assert all(p.ndim == 1 for p in optimizer.param_groups[1]["params"])
    assert optimizer.param_groups[0]["weight_decay"] > 0 == optimizer.param_groups[1]["weight_decay"]


def test_overfits_one_batch():
    task = classifier()
    task.log = lambda *_, **__: None
    images, targets = torch.randn(12, 3, 8, 9), torch.arange(12) % 6
    optimizer = torch.optim.Adam(task.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        loss = task.training_step(Batch(images, targets, targets), 0)
        loss.backward()
        optimizer.step()
    assert 0 < loss.item() < 0.05
    assert (task(images).argmax(1) == targets).all()


@pytest.mark.slow
def test_resumed_run_has_the_same_weights_with_any_number_of_workers(fit):
    common = [*SHORTER, "--model.schedule", "null"]
    straight = fit(*common, "--trainer.max_epochs", "2", "--name", "straight")
    halved = fit(*common, "--trainer.max_epochs", "1", "--name", "halved")
    fit("--resume", str(halved), "--trainer.max_epochs", "2", "--data.num_workers", "2")
    one, other = (torch.load(r / "checkpoints" / "last.ckpt", weights_only=True) for r in (straight, halved))
    assert one["global_step"] == other["global_step"] == 8
    assert all(torch.equal(value, other["state_dict"][key]) for key, value in one["state_dict"].items())


def test_report_equals_test_of_the_checkpoint(tiny_run, capsys):
    reported = (tiny_run / "printed.txt").read_text()
    results = json.loads((tiny_run / "results.json").read_text())
    assert {"test/accuracy", "test/f1", "train_seconds", "images_per_second", "peak_memory_bytes"} <= set(results)
    assert re.search(rf"^test/accuracy +{results['test/accuracy']:.4f}$", reported, re.MULTILINE)
    shutil.copy(tiny_run / "checkpoints" / "best.ckpt", "elsewhere.ckpt")
    verbs.test(["elsewhere.ckpt"])
    table = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("test/"))
    assert table == {key: f"{results[key]:.4f}" for key in table}
    assert len(table) == 4


def test_report_of_val_has_metrics_by_class(fit, image_folder, repository):
    root = image_folder({"train": {"cat": 8, "dog": 8}, "val": {"cat": 3, "dog": 5}})
    config = str(repository / "configs" / "classification_folder.yaml")
    net = ["--model.net.widths", "[4, 8]", "--trainer.max_epochs", "1"]
    run = fit("--config", config, "--data.root", str(root), *net)
    results = json.loads((run / "results.json").read_text())
    mean = (3 * results["val/accuracy/cat"] + 5 * results["val/accuracy/dog"]) / 8
    assert results["val/accuracy"] == pytest.approx(mean, abs=1e-4)


@pytest.mark.slow
def test_two_processes_measure_the_same_as_one(tiny_run, ranks, command):
    """359 or fewer test images: uneven for two, and one alone leaves a process without any."""
    words = [str(tiny_run), "--data.batch_size", "50", "--trainer.accelerator", "cpu"]
    one = command("test", *words)
    two = ranks("project.test", *words, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    tables = [ended.stdout[ended.stdout.index("test/loss") :].split() for ended in (one, two)]
    assert tables[0] == tables[1] and len(tables[0]) > 30  # with a row for each of ten classes


def test_early_stopping_names_its_reason_and_can_be_disabled(fit, capsys):
    still = [*SHORTER, "--trainer.max_epochs", "3", "--model.optimizer.lr", "0", "--early_stopping.patience"]
    fit(*still, "1")
    assert re.search(r"stopped after epoch 2: val/accuracy has not improved", capsys.readouterr().out)
    fit(*still, "null")
    assert "stopped after" not in capsys.readouterr().out


def test_tensorboard_has_curves_and_hyperparameters(tiny_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tiny_run)).Reload()
    tags = set(events.Tags()["scalars"])
    assert {"train/loss", "val/accuracy", "val/loss", "test/accuracy", "speed/images_per_second"} <= tags
    assert {"learning_rate", "gradient_norm"} <= tags and not any(tag.startswith("lr-") for tag in tags)
    row = EventAccumulator(str(tiny_run / "best")).Reload()
    assert "_hparams_/session_start_info" in row.summary_metadata and "test/accuracy" in row.Tags()["scalars"]


def test_loss_terms_add_up_over_the_parts_of_a_batch():
    task = classifier(3, label_smoothing=0.3, weighted=True, class_counts=[10, 20, 5]).eval()  # batch normalisation
    images, targets = torch.rand(5, 3, 8, 9), torch.tensor([0, 1, 1, 2, 0])
    parts = [Batch(images[keys], targets[keys], keys) for keys in torch.arange(5).split([1, 4])]
    sums, weights = (sum(terms) for terms in zip(*map(task.loss_terms, parts), strict=True))
    wanted = F.cross_entropy(task(images), targets, task.class_weights, label_smoothing=0.3)
    assert torch.allclose(sums / weights, wanted)


def test_class_without_images_has_no_accuracy():
    values = logged(torch.eye(3)[[0, 2, 2]], torch.tensor([0, 2, 0]), cut=1)
    assert (values["test/accuracy/0"], values["test/accuracy/2"]) == (0.5, 1)
    assert "test/accuracy/1" not in values


def test_arguments_out_of_range_are_refused():
    assert_refused(Classifier, label_smoothing=1.0)
