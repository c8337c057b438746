import json
import math
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from score_terms import score_of
from torch.nn import functional as F

from kit.cli import verbs
from kit.data import Batch
from kit.ground.errors import UserError
from kit.masks import CrossEntropy, Dice, Focal
from project.segmentation import CnnUnet, Segmenter


def segmenter(num_classes: int = 4, **options) -> Segmenter:
    torch.manual_seed(0)
    task = Segmenter(lambda **sizes: CnnUnet(widths=[8, 16], depth=1, **sizes), num_classes, 3, **options)
    task.log = lambda *_, **__: None
    return task


class Given(torch.nn.Module):
    """Logits that are given as if they were images."""

    def __init__(self, **_):
        super().__init__()
        self.head = torch.nn.Linear(1, 1)

    def forward(self, images):
        return images


def logged(logits: torch.Tensor, targets: torch.Tensor, cut: int, **options) -> dict[str, float]:
    """What is reported after two batches, the first of `cut` samples."""
    task, values = Segmenter(Given, logits.shape[1], 1, **options), {}
    task.log_dict = lambda metrics: values.update({key: float(value) for key, value in metrics.items()})
    task.on_test_epoch_start()
    for start, end in ((0, cut), (cut, len(logits)), (0, 0)):  # the last as a process without samples gets it
        keys = torch.arange(start, end)
        task.test_step(Batch(logits[keys], targets[keys], keys), 0)
    task.on_test_epoch_end()
    return values


TARGETS = torch.tensor([[[0, 0, 1], [1, 255, 0]], [[0, 1, 1], [255, 255, 0]]])
PREDICTED = torch.tensor([[[0, 1, 1], [1, 3, 0]], [[0, 0, 1], [1, 2, 2]]])


def test_metrics_by_hand():
    """Class 0 stands in 5 pixels, of which 3 are found, and 1 more is taken for it: 3/6; class 1 so 3/5; class 2 stands
    nowhere and is predicted once: 0; class 3, predicted where it is ignored alone, has no IoU."""
    logits = 4 * F.one_hot(PREDICTED, 4).permute(0, 3, 1, 2).float()
    values = logged(logits, TARGETS, cut=1, class_names=["a", "b", "c", "d"])
    assert values["test/iou/a"] == pytest.approx(3 / 6)
    assert values["test/iou/b"] == pytest.approx(3 / 5)
    assert values["test/iou/c"] == 0
    assert "test/iou/d" not in values
    assert values["test/miou"] == pytest.approx((3 / 6 + 3 / 5 + 0) / 3)
    assert values["test/pixel_accuracy"] == pytest.approx(6 / 9)
    assert values["test/loss"] == pytest.approx(float(F.cross_entropy(logits, TARGETS, ignore_index=255)))


def test_score_is_the_mean_iou():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 4, (6, 5, 7), generator=generator)
    targets[targets == 2] = 255
    targets[3] = 255
    logits = torch.rand(6, 5, 5, 7, generator=generator)
    logits[:, 4] = 0  # a class that is nowhere
    task = Segmenter(Given, 5, 1)
    batches = [Batch(logits[keys], targets[keys], keys) for keys in torch.arange(6).split([4, 2, 0])]
    evaluation = task.evaluation("val")
    for batch in batches:
        task.measure(evaluation, batch)
    wanted = logged(logits, targets, cut=4)["test/miou"]
    assert len(evaluation) == 6 and evaluation.score() == pytest.approx(wanted) == score_of(evaluation.score_terms())


def test_nothing_is_measured_if_all_pixels_are_ignored():
    values = logged(torch.rand(2, 3, 4, 5), torch.full((2, 4, 5), 255), cut=1)
    assert all(math.isnan(values[key]) for key in ("test/loss", "test/miou", "test/pixel_accuracy"))
    assert not [key for key in values if key.startswith("test/iou/")]


def test_class_weights_equal_those_of_enet():
    task = segmenter(3, weighted=True, class_counts=[900, 100, 0])
    wanted = [1 / math.log(1.02 + share) for share in (0.9, 0.1, 0.0)]
    assert task.class_weights.tolist() == pytest.approx(wanted)
    images, targets = torch.rand(2, 3, 8, 9), torch.randint(0, 3, (2, 8, 9))
    loss = task.training_step(Batch(images, targets, torch.arange(2)), 0)
    task.eval()  # not the same: batch normalisation
    task.train()
    assert torch.allclose(loss, F.cross_entropy(task(images), targets, task.class_weights))


def test_losses_are_summed():
    images, targets = torch.rand(2, 3, 8, 9), torch.randint(0, 4, (2, 8, 9))
    task = segmenter(losses=[CrossEntropy(0.5), Dice(2.0)])
    logits = task(images)
    wanted = 0.5 * F.cross_entropy(logits, targets) + 2 * Dice()(logits, targets)
    assert torch.allclose(task.training_step(Batch(images, targets, torch.arange(2)), 0), wanted)


def test_norms_and_biases_have_no_weight_decay():
    optimizer = segmenter(schedule=None).configure_optimizers()
    assert all(p.ndim > 1 for p in optimizer.param_groups[0]["params"])
    assert all(p.ndim == 1 for p in optimizer.param_groups[1]["params"])
    assert optimizer.param_groups[0]["weight_decay"] > 0 == optimizer.param_groups[1]["weight_decay"]


@pytest.mark.parametrize("window", [(0, 0), (8, -1)])
def test_empty_window_is_refused(window):
    with pytest.raises(UserError, match=r"model\.window is \[.*\], but must be a height and a width above 0"):
        segmenter(window=window)


def test_windows_are_used_in_evaluation_only():
    seen = []
    task = segmenter(window=(8, 8))
    task.net.register_forward_hook(lambda _, given, __: seen.append(tuple(given[0].shape[2:])))
    images = torch.rand(1, 3, 12, 20)
    assert task.train()(images).shape == task.eval()(images).shape == (1, 4, 12, 20)
    assert seen == [(12, 20)] + [(8, 8)] * 8


def test_overfits_one_batch(tiny):
    pictures = [tiny.picture(18, 26, seed) for seed in range(3)]
    images = torch.stack([torch.from_numpy(tiny.pixels(image)).permute(2, 0, 1) for image, _ in pictures]) / 255
    targets = torch.stack([torch.from_numpy(mask) for _, mask in pictures]).long()
    task = segmenter(3)
    optimizer = torch.optim.Adam(task.parameters(), 0.02)
    for _ in range(80):
        optimizer.zero_grad()
        loss = task.training_step(Batch(images, targets, targets), 0)
        loss.backward()
        optimizer.step()
    assert 0 < loss.item() < 0.1
    assert (task(images).argmax(1) == targets).float().mean() > 0.98


@pytest.fixture
def run(fit, repository):
    """A run of `segmentation.yaml` over a few scenes."""

    def of(*arguments: str):
        config = str(repository / "configs" / "segmentation.yaml")
        scenes = ["--data.train", "24", "--data.val", "5", "--data.test", "7", "--data.batch_size", "4"]
        net = ["--model.net.widths", "[4, 6]", "--trainer.max_epochs", "1"]
        return fit("--config", config, *scenes, *net, *arguments)

    return of


def test_report_equals_test_of_the_checkpoint(tiny_run, capsys):
    reported = (tiny_run / "printed.txt").read_text()
    results = json.loads((tiny_run / "results.json").read_text())
    assert {"test/miou", "test/pixel_accuracy", "test/loss", "test/iou/background"} <= set(results)
    assert re.search(rf"^test/miou +{results['test/miou']:.4f}$", reported, re.MULTILINE)
    shutil.copy(tiny_run / "checkpoints" / "best.ckpt", "elsewhere.ckpt")
    verbs.test(["elsewhere.ckpt"])
    table = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("test/"))
    assert table == {
        key: f"{value:.4f}" for key, value in results.items() if key.startswith("test/") and key.count("/") == 1
    }


@pytest.mark.slow
def test_report_of_val_has_metrics_by_class(run, capsys):
    results = json.loads((run("--data.test", "0") / "results.json").read_text())
    said = capsys.readouterr().out
    assert "no test split" in said and "val/iou/background" in results
    table = dict(line.split() for line in said.splitlines() if line.startswith("val/"))
    overall = {key: value for key, value in results.items() if key.startswith("val/") and key.count("/") == 1}
    assert table == {key: f"{value:.4f}" for key, value in overall.items()}


MEASURE = """
import json, sys
import project
from kit.cli import process, verbs

if __name__ == "__main__":
    process.quiet()
    verbs.report = lambda metrics, *_, **__: print("figures", json.dumps(metrics))
    verbs.test(sys.argv[1:])
"""


@pytest.mark.slow
def test_two_processes_measure_the_same_as_one(run, ranks, monkeypatch):
    folder = run()  # with 7 scenes for the test: uneven for two
    alone = {}
    monkeypatch.setattr(verbs, "report", lambda metrics, *_, **__: alone.update(metrics))
    verbs.test([str(folder)])
    Path("measure.py").write_text(MEASURE)
    two = ["--trainer.devices", "2", "--trainer.accelerator", "cpu", "--trainer.strategy", "ddp"]
    ended = ranks("measure.py", str(folder), *two)
    assert ended.returncode == 0, ended.stderr
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("figures ")]
    assert json.loads(line.removeprefix("figures ")) == pytest.approx(alone, abs=1e-6)
    assert {"test/loss", "test/miou", "test/pixel_accuracy", "test/iou/background"} <= set(alone)


@pytest.mark.slow
def test_run_with_coloured_masks(tiny, fit, repository, capsys):
    root = tiny.folders(Path("scenes"), {"train": 8, "val": 2}, size=(30, 44))
    (root / "classes.txt").unlink()
    shades = [[9, 9, 9], [0, 0, 255], [0, 255, 0]]
    for path in root.glob("*annot/*.png"):
        mask = tiny.pixels(Image.open(path))
        Image.fromarray(torch.tensor(shades, dtype=torch.uint8)[torch.from_numpy(mask).long()].numpy()).save(path)
    colours = json.dumps(dict(zip("abc", shades, strict=True)))
    config = str(repository / "configs" / "segmentation_camvid.yaml")
    options = [
        "--data.root",
        str(root),
        "--data.colors",
        colours,
        "--data.image_size",
        "native",
        "--data.cache",
        "none",
    ]
    options += ["--data.ignore", "null", "--model.window", "[16, 20]", "--model.net.widths", "[4, 8]"]
    options += ["--trainer.max_epochs", "1", "--data.batch_size", "4"]
    run = fit("--config", config, *options)
    out = capsys.readouterr().out
    assert "no test split" in out
    results = json.loads((run / "results.json").read_text())
    assert {"val/miou", "val/pixel_accuracy", "val/loss"} <= set(results)
    other = tiny.folders(Path("others"), {"train": 3}, size=(21, 50))
    (other / "classes.txt").write_text("b\nc\na\n")
    verbs.test([str(run), "--data.root", str(other), "--data.colors", "null"])
    rows = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line}
    assert {"class", "a", "b", "c"} <= rows
    (other / "classes.txt").write_text("b\ncc\na\n")
    with pytest.raises(UserError, match="the model has no class 'cc'"):
        verbs.test([str(run), "--data.root", str(other), "--data.colors", "null"])


def test_run_with_coco(fit, repository):
    Path("root").mkdir()
    for number in range(6):
        Image.new("RGB", (40, 30), (20 * number, 9, 9)).save(f"root/{number}.png")
    square = [[5, 5, 30, 5, 30, 20, 5, 20]]
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 30, "width": 40} for n in range(6)],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "segmentation": square} for n in range(6)],
    }
    Path("root/labels.json").write_text(json.dumps(content))
    config = str(repository / "configs" / "segmentation_finetune.yaml")
    options = ["--data.root", "root", "--data.batch_size", "2"]
    options += ["--model.net.pretrained", "false", "--data.image_size", "[32, 48]", "--trainer.max_epochs", "1"]
    run = fit("--config", config, *options)
    assert "val/miou" in json.loads((run / "results.json").read_text())


def test_loss_terms_add_up_over_the_parts_of_a_batch():
    """The second part counts nowhere, and images show different numbers of classes."""
    task = segmenter(losses=[CrossEntropy(0.5), Dice(2.0), Focal()], weighted=True, class_counts=[9, 3, 2, 1]).eval()
    images, targets = torch.rand(4, 3, 8, 9), torch.randint(0, 4, (4, 8, 9))
    targets[1], targets[2, 3:] = 255, 255
    batch = Batch(images, targets, torch.arange(4))
    parts = [Batch(images[keys], targets[keys], keys) for keys in torch.arange(4).split([1, 1, 2])]
    sums, weights = (sum(terms) for terms in zip(*map(task.loss_terms, parts), strict=True))
    assert torch.allclose((sums / weights).sum(), task.training_step(batch, 0))
    assert task.additive


def test_custom_loss_is_a_mean_over_images():
    class Brightness(torch.nn.Module):
        def forward(self, logits, targets, class_weights):
            return logits.mean()

    task = segmenter(losses=[CrossEntropy(), Brightness()])
    batch = Batch(torch.rand(2, 3, 8, 9), torch.randint(0, 4, (2, 8, 9)), torch.arange(2))
    logits = task(batch.images)
    assert torch.allclose(task.training_step(batch, 0), F.cross_entropy(logits, batch.targets) + logits.mean())
    assert not task.additive


CONFIGS = sorted((Path(__file__).resolve().parents[3] / "configs").glob("segmentation*.yaml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_loss_on_the_command_line_is_added_to_those_of_the_config(config, capsys):
    with pytest.raises(SystemExit):
        verbs.fit(["--config", str(config), "--model.losses+=kit.masks.Focal", "--print_config"])
    losses = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["losses"]
    assert losses[0]["class_path"] == "kit.masks.CrossEntropy" and losses[-1]["class_path"] == "kit.masks.Focal"


@pytest.mark.parametrize("loss", [torch.nn.CrossEntropyLoss, torch.nn.Identity])
def test_loss_without_class_weights_is_refused(loss):
    with pytest.raises(UserError, match=rf"model\.losses: {loss.__name__} cannot be called with"):
        segmenter(losses=[CrossEntropy(), loss()])
