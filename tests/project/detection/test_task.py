import json
import math
import re
import shutil
from pathlib import Path

import pytest
import torch

from kit.cli import verbs
from kit.data import Batch
from kit.ground.errors import UserError
from kit.zoo import TorchvisionDetector
from project import load
from project.detection import CnnFcos, Detector, DigitScenes

NET = ["--model.net.widths", "[8, 8]", "--model.net.depth", "1", "--model.net.neck", "32", "--model.net.levels", "[1]"]
SHORT = [*NET, "--trainer.limit_train_batches", "3", "--trainer.max_epochs", "1", "--data.scenes", "60"]
DDP = ["--trainer.devices", "2", "--trainer.accelerator", "cpu", "--trainer.strategy", "ddp"]


@pytest.fixture
def detect(fit, repository):
    return lambda *args: fit("--config", str(repository / "configs" / "detection.yaml"), *args)


def detector(**options) -> Detector:
    torch.manual_seed(0)
    net = {"widths": [16, 32], "depth": [1, 2], "levels": [1], "neck": 32}
    task = Detector(lambda **sizes: CnnFcos(**net, **sizes), 10, 3, [str(k) for k in range(10)], **options)
    task.log = lambda *_, **__: None
    return task


def batch(count: int = 4) -> Batch:
    data = DigitScenes(scenes=40, batch_size=count)
    data.setup("fit")
    return data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)


@pytest.mark.slow
def test_overfits_one_batch():
    task, one = detector(), batch(2)
    optimizer = torch.optim.AdamW(task.parameters(), 0.005)
    for _ in range(80):
        optimizer.zero_grad()
        task.training_step(one, 0).backward()
        optimizer.step()
    values: dict[str, float] = {}
    task.eval().log_dict = values.update
    task.on_test_epoch_start()
    task.test_step(one, 0)
    task.test_step(Batch(one.images[:0], (), one.keys[:0]), 1)  # as a process without samples gets it
    task.on_test_epoch_end()
    assert values["test/map_50"] > 0.95 and values["test/map"] > 0.5
    assert {key.split("/")[-1] for key in values if key.startswith("test/map_50/")} <= set(map(str, range(10)))


def test_score_is_the_average_precision():
    task, one = detector(), batch(6)
    task.net.score_thresh = 0.0
    values: dict[str, float] = {}
    task.eval().log_dict = values.update
    empty = Batch(one.images[:0], (), one.keys[:0])
    task.on_test_epoch_start()
    for some in (one, empty):
        task.test_step(some, 0)
    task.on_test_epoch_end()
    assert task.latest_evaluation.score() == values["test/map"]
    assert task.latest_evaluation.score_terms().shape == (6, 2, 1)
    assert math.isnan(task.evaluation("val").score())


def test_crowds_are_neither_trained_on_nor_measured():
    task, one = detector(), batch(2)
    single = [{**target, "crowd": torch.zeros_like(target["crowd"])} for target in one.targets]
    more = []
    for target in single:
        crowd = {"boxes": torch.tensor([[0.0, 0.0, 96.0, 64.0]]), "labels": torch.tensor([1]),
                 "original_boxes": torch.tensor([[0.0, 0.0, 96.0, 64.0]]), "crowd": torch.tensor([True])}  # fmt: skip
        more.append({**target, **{key: torch.cat([target[key], crowd[key]]) for key in crowd}})
    losses = [task.training_step(one._replace(targets=targets), 0) for targets in (single, more)]
    assert torch.allclose(*losses)


def test_objects_are_pasted_only_in_training():
    one = batch(4)
    losses = []
    for paste in (0.0, 1.0):
        torch.manual_seed(0)
        losses.append(detector(paste=paste).training_step(one, 0))
    assert not torch.equal(*losses)
    task = detector(paste=1.0).eval()
    assert len(task.evaluate(one)) == 4 and torch.equal(one.images, batch(4).images)


@pytest.mark.slow
def test_pasted_objects_are_the_same_after_a_resume(detect):
    common = [*SHORT, "--model.paste", "1", "--model.schedule", "null", "--data.batch_size", "4"]
    straight = detect(*common, "--trainer.max_epochs", "2", "--name", "straight")
    halved = detect(*common, "--name", "halved")
    verbs.fit(["--resume", str(halved), "--trainer.max_epochs", "2", "--data.num_workers", "2"])
    one, other = (torch.load(r / "checkpoints" / "last.ckpt", weights_only=True) for r in (straight, halved))
    assert one["global_step"] == other["global_step"] == 6
    assert all(torch.equal(value, other["state_dict"][key]) for key, value in one["state_dict"].items())


def test_parameter_groups():
    task = detector(schedule=None)
    task.net.backbone.trunk.levels[0].requires_grad_(False)
    groups = task.configure_optimizers().param_groups
    assert all(p.ndim > 1 for p in groups[0]["params"]) and all(p.ndim == 1 for p in groups[1]["params"])
    assert groups[0]["weight_decay"] > 0 == groups[1]["weight_decay"]
    assert all(p.requires_grad for group in groups for p in group["params"])


def test_report_equals_test_of_the_checkpoint(tiny_run, capsys):
    reported = (tiny_run / "printed.txt").read_text()
    results = json.loads((tiny_run / "results.json").read_text())
    assert {"test/map", "test/map_50", "test/map_75", "test/map/3", "test/map_50/3", "train_seconds"} <= set(results)
    assert all(0 <= value <= 1 for key, value in results.items() if key.startswith("test/"))
    assert re.search(rf"^test/map +{results['test/map']:.4f}$", reported, re.MULTILINE)
    shutil.copy(tiny_run / "checkpoints" / "best.ckpt", "elsewhere.ckpt")
    verbs.test(["elsewhere.ckpt"])
    table = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("test/"))
    assert table == {key: f"{results[key]:.4f}" for key in table} and "test/map_75" in table


def test_best_threshold_is_kept_and_is_the_default_of_pictures(tiny_run, monkeypatch):
    """A checkpoint holds it, and the metrics of a test are not changed by it."""
    task = load(tiny_run).task
    saved = torch.load(tiny_run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]["threshold"]
    assert float(task.threshold) == float(saved) == task.evaluation("test").threshold
    task.threshold.fill_(0.25)
    assert task.evaluation("test").threshold == task.evaluation("train").threshold == 0.25
    drawn = []
    monkeypatch.setattr("project.detection.task.draw_boxes", lambda *arguments: drawn.append(arguments[-1]))
    task.draw(torch.zeros(3, 8, 9, dtype=torch.uint8))
    evaluation = task.evaluation("val")
    truth = {
        "original_boxes": torch.tensor([[0.0, 0, 9, 9]]),
        "labels": torch.tensor([1]),
        "crowd": torch.tensor([False]),
    }
    found = {"boxes": truth["original_boxes"], "scores": torch.tensor([0.75]), "labels": truth["labels"]}
    evaluation.update(torch.tensor([0]), [found], [truth])
    task.latest_evaluation = evaluation
    task.draw(torch.zeros(3, 8, 9, dtype=torch.uint8))
    assert drawn == [0.25, 0.75]
    checkpoint = {"state_dict": {}}
    task.on_save_checkpoint(checkpoint)
    assert float(checkpoint["state_dict"]["threshold"]) == 0.75


def test_training_goes_on_with_the_chosen_threshold_beside_averaged_weights(detect):
    """After `--resume`, the task starts with `current_model_state`."""
    run = detect(*SHORT, "--trainer.callbacks+=kit.training.EMA", "--model.net.score_thresh", "0.001")
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    averaged, current = (float(checkpoint[key]["threshold"]) for key in ("state_dict", "current_model_state"))
    assert averaged == current != 0.5


@pytest.mark.slow
@pytest.mark.parametrize("scenes", [65, 5], ids=["uneven", "fewer than processes"])
def test_two_processes_train_and_measure_the_same_as_one(repository, ranks, capsys, scenes):
    """13 test images, or a single one, which leaves a process without any."""
    words = ["--config", str(repository / "configs" / "detection.yaml"), *SHORT, *DDP]
    words += ["--data.batch_size", "2", "--data.scenes", str(scenes), "--model.net.score_thresh", "0.001"]
    ended = ranks("project.fit", *words)
    assert ended.returncode == 0, ended.stderr
    verbs.test(["runs/detection/version_0", "--data.batch_size", "3"])
    both, one = (
        [line.split() for line in text.splitlines() if re.match(r"test/|class |\d ", line)]
        for text in (ended.stdout, capsys.readouterr().out)
    )
    assert both == one and any(row[0].isdecimal() for row in both)


@pytest.mark.slow
def test_other_data_are_tested_with_the_classes_of_the_model(fit, repository, tiny, capsys):
    for name, count in (("one", {"train": 4, "val": 2}), ("other", {"train": 3})):
        Path(name).mkdir()
        tiny.voc_parts(Path(name), count)
    run = fit(
        "--config", str(repository / "configs" / "detection_bccd.yaml"), "--data.root", "one", "--data.image_size",
        "[32, 40]", *NET, "--trainer.max_epochs", "1", "--model.net.score_thresh", "0.0",
    )  # fmt: skip
    assert "no test split" in capsys.readouterr().out
    verbs.test([str(run), "--data.root", "other"])
    assert re.search("^owl ", capsys.readouterr().out, re.MULTILINE)
    for file in Path("other/Annotations").glob("*.xml"):
        file.write_text(file.read_text().replace("owl", "owls"))
    with pytest.raises(UserError, match=r"train_1\.xml:18: .*'owls'.*did you mean 'owl'"):
        verbs.test([str(run), "--data.root", "other"])


@pytest.mark.slow
def test_chosen_size_is_kept_on_other_data_and_when_resumed(fit, repository, tiny, capsys, monkeypatch):
    """Other images, in another format, would get another size, and so would the training images of a resumed run."""
    for root, size in (("wide", (200, 400)), ("high", (400, 200))):
        some = [tiny.Picture(f"{n}.jpg", size, [(0, 0, 90, 90)], ["cat"]) for n in range(6)]
        tiny.save(Path(root), some)
        (tiny.yolo if root == "high" else tiny.voc)(Path(root), some)
    Path("high/classes.txt").write_text("cat\n")
    config = str(repository / "configs" / "detection_folder.yaml")
    steps = ["--trainer.max_steps", "4", "--trainer.val_check_interval", "2", "--model.net.widths", "[8, 8, 8]"]
    options = [*steps, "--model.net.depth", "1", "--model.net.levels", "[2]", "--data.batch_size", "2"]
    run = fit("--config", config, "--data.root", "wide", *options)
    assert "data: VOC, 5 / 1 images (train / val)" in capsys.readouterr().out
    assert load(run).preprocessing.size == (192, 384)
    measured = []
    task = Detector.evaluate
    monkeypatch.setattr(
        Detector, "evaluate", lambda self, batch: measured.append(batch.images.shape[2:]) or task(self, batch)
    )
    verbs.test([str(run), "--data.root", "high"])
    assert set(measured) == {(192, 384)}
    resumed = fit("--resume", str(run), "--force", "true", "--data.root", "high", "--trainer.max_steps", "6")
    assert resumed == run and load(run).preprocessing.size == (192, 384) and set(measured) == {(192, 384)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["voc", "yolo"])
def test_finetuning_config_with_every_format(fit, repository, tiny, capsys, kind):
    some = tiny.pictures(6)
    tiny.save(Path("d"), some)
    {"voc": tiny.voc, "yolo": tiny.yolo}[kind](Path("d"), some)
    Path("d/classes.txt").write_text("\n".join(tiny.CLASSES))
    config = str(repository / "configs" / "detection_finetune.yaml")
    data = ["--data.root", "d", "--data.image_size", "[32, 40]"]
    net = ["--model.net.pretrained", "false", "--model.net.name", "ssdlite320_mobilenet_v3_large"]
    fit("--config", config, *data, *net, "--data.batch_size", "2", "--trainer.max_epochs", "1")
    said = capsys.readouterr().out
    assert "val/map " in said and re.search("^(cat|dog|owl) ", said, re.MULTILINE)


def test_validation_images_without_boxes_cannot_choose_a_checkpoint(fit, repository, tiny):
    tiny.coco_parts(Path("d"), {"train": 4, "val": 2})
    tiny.coco(Path("d/annotations/instances_val2017.json"), [tiny.Picture("0.jpg", (22, 30), [], [])])
    config = str(repository / "configs" / "detection_bccd.yaml")
    with pytest.raises(UserError, match="none of the evaluated validation images has a box"):
        fit(
            "--config",
            config,
            "--data.root",
            "d",
            *NET,
            "--trainer.max_epochs",
            "1",
        )


def test_loss_terms_add_up_over_the_parts_of_a_batch():
    """Of which one has no box at all: what is not there is taken for background, over the foreground of the others."""
    task, one = detector(), batch(3)
    for module in task.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    empty = {key: value[:0] if key != "size" else value for key, value in one.targets[0].items()}
    one = one._replace(targets=[empty, *one.targets[1:]])
    parts = [Batch(one.images[i : i + 1], one.targets[i : i + 1], one.keys[i : i + 1]) for i in range(3)]
    terms = [task.loss_terms(part) for part in parts]
    sums, weights = (sum(term) for term in zip(*terms, strict=True))
    assert terms[0][1] == 0 and terms[0][0] > 0
    assert torch.allclose((sums / weights).sum(), task.training_step(one, 0))
    assert task.additive


def test_losses_of_the_net_are_logged_apart():
    task, one, logged = detector(), batch(2), {}
    task.log = lambda name, value, **_: logged.update({name: float(value.detach())})
    task.training_step(one, 0)
    parts = {f"train/loss_{name}" for name in ("classification", "bbox_regression", "bbox_ctrness")}
    assert set(logged) == {"train/loss", *parts}
    assert sum(logged[name] for name in parts) == pytest.approx(logged["train/loss"])
    logged.clear()
    task.loss_terms(batch(1))  # a part of the batch
    assert not logged


def test_detectors_that_sample_are_not_additive():
    for name, wanted in (("ssdlite320_mobilenet_v3_large", False), ("retinanet_resnet50_fpn", True)):
        net = TorchvisionDetector(num_classes=3, name=name)
        assert Detector(lambda net=net, **_: net, 3, 3).additive is wanted


def test_many_objects_raise_the_limit_of_detections(fit, repository, tiny):
    """The densest training image has 130 boxes that are no crowds."""
    boxes = [(2.0 * (k % 13), 2.0 * (k // 13), 2.0 * (k % 13) + 2, 2.0 * (k // 13) + 2) for k in range(131)]
    dense = tiny.Picture("dense.jpg", (24, 30), boxes, ["cat"] * 131, crowd=[k == 0 for k in range(131)])
    for split, some in (("train", [dense, *tiny.pictures(3)]), ("val", tiny.pictures(2))):
        tiny.save(Path(f"d/{split}2017"), some)
        tiny.coco(Path(f"d/annotations/instances_{split}2017.json"), some)
    config = ["--config", str(repository / "configs" / "detection_bccd.yaml")]
    run = fit(*config, "--data.root", "d", "--data.image_size", "[32, 40]", *NET, "--trainer.max_epochs", "1")
    task = load(run).task
    assert (task.max_detections, task.evaluation("val").max_detections, task.net.detections_per_img) == (130, 130, 130)
    assert task.net.topk_candidates == 1300
    few = detector()
    assert (few.max_detections, few.evaluation("test").max_detections, few.net.detections_per_img) == (100, 100, 100)
