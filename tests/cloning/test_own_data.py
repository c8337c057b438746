"""The benchmark of the configs for own data: the data that it prepares, its peers, and a table over made data."""

import importlib
import json
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


@pytest.fixture
def bench(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("own_data")


@pytest.fixture
def peers(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    return importlib.import_module("own_data_peers")


def write_image(file: Path, height: int = 30, width: int = 40) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(str(file))).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


@pytest.fixture
def voc(tmp_path) -> Path:
    root = tmp_path / "voc"
    for folder in ("ImageSets/Main", "Annotations"):
        (root / folder).mkdir(parents=True)
    for split, stems in (("train", ["a", "b", "empty"]), ("test", ["c"])):
        (root / f"ImageSets/Main/{split}.txt").write_text("\n".join(stems))
        for stem in stems:
            write_image(root / f"JPEGImages/{stem}.jpg")
            objects = (
                "" if stem == "empty" else OBJECT.format("dog", 4, 3, 24, 18) + OBJECT.format("cat", 10, 0, 20, 30)
            )
            (root / f"Annotations/{stem}.xml").write_text(f"<annotation>{objects}</annotation>")
    return root


def test_a_subset_is_chosen_by_the_seed_and_keeps_all_test_images(bench, image_folder, tmp_path):
    root = image_folder({"train": {"a": 9, "b": 7}, "test": {"a": 3, "b": 2}})
    first, again, other = (bench.subset(root, 4, seed, tmp_path / str(n)) for n, seed in enumerate((0, 0, 1)))
    names = [
        sorted(str(file.relative_to(folder)) for file in folder.rglob("*.png")) for folder in (first, again, other)
    ]
    assert names[0] == names[1] != names[2]
    assert [len(list((first / "train" / name).iterdir())) for name in "ab"] == [4, 4]
    assert len(list((first / "test").glob("*/*.png"))) == 5


def test_cpu_seconds_are_those_of_the_process_and_a_failure_ends_the_benchmark(bench, capsys):
    seconds, output = bench.cpu_seconds(["-c", "import time; time.sleep(0.5); print(7)"])
    assert output == "7\n" and seconds < 0.4
    with pytest.raises(SystemExit) as ended:
        bench.cpu_seconds(["-c", "raise SystemExit(3)"])
    assert ended.value.code == 3


def test_a_peer_that_is_not_installed_is_named(bench, monkeypatch):
    monkeypatch.setitem(bench.PACKAGES, "yolo11n", ["no_such_package"])
    assert bench.missing("yolo11n") == "no_such_package"
    assert bench.missing("resnet18") == ""


def test_boxes_of_both_formats_are_read(peers, voc, tmp_path):
    names, splits = peers.read_boxes(voc)
    assert names == ["cat", "dog"] and [len(splits[split]) for split in ("train", "test")] == [3, 1]
    target = peers.targets_of(splits["train"], names, 1)
    assert target[0]["boxes"].tolist() == [[4, 3, 24, 18], [10, 0, 20, 30]] and target[0]["labels"].tolist() == [2, 1]
    assert target[2]["boxes"].shape == (0, 4)

    for split in ("train", "test"):
        (tmp_path / "coco" / split).mkdir(parents=True)
        annotation = {"image_id": 5, "category_id": 8, "bbox": [1, 2, 10, 20]}
        document = {"images": [{"id": 5, "file_name": "x.jpg"}], "categories": [{"id": 8, "name": "cow"}]}
        file = tmp_path / "coco" / split / "_annotations.coco.json"
        file.write_text(json.dumps({**document, "annotations": [annotation]}))
    names, splits = peers.read_boxes(tmp_path / "coco")
    assert names == ["cow"] and splits["test"][0] == (tmp_path / "coco/test/x.jpg", [[1, 2, 11, 22]], ["cow"])

    peers.write_yolo(tmp_path / "yolo", "train", peers.read_boxes(voc)[1]["train"], ["cat", "dog"])
    lines = (tmp_path / "yolo/labels/train/a.txt").read_text().splitlines()
    assert lines[0] == "1 0.350000 0.350000 0.500000 0.500000"
    assert (tmp_path / "yolo/labels/train/empty.txt").read_text() == ""


def test_training_ends_at_its_cpu_seconds(peers):
    net, steps = torch.nn.Linear(2, 1), []

    def loss(indices: torch.Tensor) -> torch.Tensor:
        steps.append(indices)
        return net(torch.ones(len(indices), 2)).square().mean()

    peers.train(net, loss, 5, 2, 0.1, time.process_time() + 0.3)
    assert len(steps) > 3 and loss(torch.arange(2)).item() < 1e-2
    assert {len(step) for step in steps} == {2} and max(int(step.max()) for step in steps) == 4
    steps.clear()
    peers.train(net, loss, 5, 2, 0.1, 0.0)  # such as where importing has taken all of them
    assert len(steps) == 1


def test_the_classifier_gives_its_accuracy(peers, image_folder):
    root = image_folder({"train": {"a": 4, "b": 4}, "test": {"a": 2, "b": 2}})
    assert peers.resnet18(Namespace(root=root, size=32, seconds=0.0))["accuracy"] in (0, 0.25, 0.5, 0.75, 1)


@pytest.mark.slow
def test_the_detector_gives_its_average_precision(peers, voc):
    figures = peers.faster_rcnn(Namespace(root=voc, seconds=0.0))
    assert set(figures) == {"mAP50", "mAP"} and 0 <= figures["mAP"] <= figures["mAP50"] < 0.5


@pytest.mark.slow
def test_a_table_shows_ours_and_the_peer(tmp_path):
    pytest.importorskip("segmentation_models_pytorch")
    for split in ("train", "val", "test"):
        for number in range(4):
            write_image(tmp_path / f"pennfudan/{split}/{number}.jpg")
            mask = np.zeros((30, 40), np.uint8)
            mask[5:20, 8:30] = 1
            (tmp_path / f"pennfudan/{split}_masks").mkdir(exist_ok=True)
            Image.fromarray(mask).save(tmp_path / f"pennfudan/{split}_masks/{number}.png")
    command = [sys.executable, REPOSITORY / "benchmarks/own_data.py", "--root", tmp_path, "--seeds", "1"]
    command += ["--only", "pennfudan_masks", "--trainer.max_steps", "2", "--data.image_size", "[64, 96]"]
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    heading, columns, *rows = run.stdout.strip().splitlines()
    assert heading.startswith("pennfudan") and columns.split() == ["mIoU", "pixel", "accuracy", "CPU", "s"]
    assert [row.split("  ")[0] for row in rows] == ["ours, segmentation_folder", "smp Unet-resnet18"]
    assert all(0 <= float(row[30:].split()[0]) <= 1 for row in rows)
