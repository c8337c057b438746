"""Test that files that cannot be decoded are named and left out of all splits, also in a resumed run."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from kit.data import Files, reading
from kit.data.decode import decode
from kit.ground.errors import BrokenFiles, UnreachableFiles, UserError
from project.classification import ImageFolder

STATISTICS = {"mean": [0.5] * 3, "std": [1.0] * 3, "image_size": (6, 8)}


def folder(root: Path, **options) -> ImageFolder:
    return ImageFolder(root=str(root), **{**STATISTICS, **options})


def spoil(*files: Path) -> None:
    """Truncate files to half of their length, and keep their headers."""
    for file in files:
        file.write_bytes(file.read_bytes()[: len(file.read_bytes()) // 2])


def listed(data: ImageFolder, split: str) -> list[str]:
    return data.files(torch.arange(len(data.samples[split])), split)


@pytest.mark.parametrize("cache", ["none", "ram", "disk"])
def test_left_out_files_do_not_affect_the_others(image_folder, cache, capsys):
    root = image_folder({"train": {"a": 12, "b": 9}, "test": {"a": 3, "b": 2}})
    bad = [root / "train" / "a" / "3.png", root / "test" / "b" / "1.png"]
    spoil(*bad)
    data = folder(root, cache=cache, group=r"(\d)\.png")
    assert data.class_counts == [11, 9]
    data.setup("fit")
    output = capsys.readouterr().err
    assert f"train: 1 of 21 images cannot be decoded and are left out:\n  {bad[0]}: " in output
    assert {split: list(files) for split, files in data.left_out.items()} == {
        "train": [str(bad[0])],
        "test": [str(bad[1])],
    }
    assert data.state_dict()["left_out"] == data.left_out
    for file in bad:
        file.unlink()
    other = folder(root, cache=cache, group=r"(\d)\.png")
    other.setup("fit")
    assert data.fingerprint == other.fingerprint
    for split in ("train", "val", "test"):
        one, two = data.samples[split], other.samples[split]
        assert listed(data, split) == listed(other, split) and one.groups == two.groups
        assert torch.equal(one.targets, two.targets) and torch.equal(data.strata(one), other.strata(two))
        assert torch.equal(torch.stack(one.fetch(range(len(one)))), torch.stack(two.fetch(range(len(two)))))


LIMITS = [(1, 1, False), (2, 1, True), (10, 1, True), (10, 2, False), (40, 2, True), (41, 3, False), (60, 3, True)]


@pytest.mark.parametrize(("total", "number", "goes_on"), LIMITS)
def test_limit_of_broken_files(total, number, goes_on):
    files = {f"{index}.png": "an empty file" for index in range(number)}
    if goes_on:
        reading.stop_if_many("val", files, total)
    else:
        with pytest.raises(BrokenFiles, match=rf"{number} of {total} images of val(.|\n)*\n  0\.png: an empty file"):
            reading.stop_if_many("val", files, total)


def test_missing_file_is_left_out_but_missing_folder_stops_the_run(image_folder):
    root = image_folder({"train": {"a": 3, "b": 3}, "val": {"a": 2, "b": 2}})
    data = folder(root)
    data.load_splits()  # has listed them
    (root / "train" / "a" / "0.png").unlink()
    assert data.class_counts == [2, 3]
    shutil.rmtree(root / "val" / "a")
    with pytest.raises(UnreachableFiles, match="val/a"):
        data.setup("fit")


def test_result_of_the_search_is_stored_until_a_file_changes(image_folder, monkeypatch):
    monkeypatch.setattr(reading, "MIN_SECONDS", -1)
    root = image_folder({"train": {"a": 3, "b": 3}})
    bad = root / "train" / "a" / "1.png"
    whole = bad.read_bytes()
    spoil(bad)
    assert folder(root).class_counts == [2, 3]
    (stored,) = Path(".cache").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(Files, "verify", lambda *_: pytest.fail("the files are decoded again"))
        data = folder(root)
        assert data.class_counts == [2, 3] and list(data.left_out["train"]) == [str(bad)]
    for content in ("", "{", "[1]", "[" * 5000, "3"):
        stored.write_text(content)
        assert folder(root).class_counts == [2, 3]
    bad.write_bytes(whole)
    assert folder(root).class_counts == [3, 3]


def test_truncated_jpeg_is_named_and_left_out(image_folder, capsys):
    root = image_folder({"train": {"a": 2, "b": 2}})
    file = root / "train" / "b" / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:-20])
    data = folder(root)
    assert data.class_counts == [2, 2] and list(data.left_out["train"]) == [str(file)]
    output = capsys.readouterr().err
    assert f"train: 1 of 5 images cannot be decoded and are left out:\n  {file}: image file is truncated" in output


def test_processes_leave_out_the_same_files(image_folder, monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    data = folder(image_folder({"train": {"a": 9, "b": 9}}))
    first = {"train": ["a.png"]}
    strategy = SimpleNamespace(broadcast=lambda _: first, reduce_boolean_decision=lambda agrees, all: agrees)
    data.trainer = SimpleNamespace(strategy=strategy)
    with pytest.raises(BrokenFiles, match="processes"):
        data.setup("fit")
    first.clear()
    first.update({split: sorted(files) for split, files in data.left_out.items()})
    data.setup("fit")


@pytest.fixture
def spoiled(image_folder, repository) -> tuple[list[Path], list[str]]:
    """A file of each split that cannot be decoded, and the command line of a run on them and others."""
    root = image_folder({"train": {"a": 6, "b": 6}, "val": {"a": 2, "b": 2}, "test": {"a": 3, "b": 3}})
    bad = [root / split / "b" / "1.png" for split in ("train", "val", "test")]
    spoil(*bad)
    options = ["--config", str(repository / "configs" / "classification_folder.yaml"), "--data.root", str(root)]
    options += ["--data.image_size", "[8, 8]", "--data.batch_size", "4", "--data.augment", "[]"]
    options += ["--model.net.widths", "[4]", "--data.num_workers", "0", "--data.cache", "none"]
    options += ["--trainer.max_epochs", "1"]
    return bad, options


def test_run_reports_left_out_files(spoiled, fit, capsys):
    bad, options = spoiled
    run = fit(*options)
    output = capsys.readouterr().out
    for split, file in zip(("train", "val", "test"), bad, strict=True):
        assert f"left out of {split}, because they cannot be decoded: 1 ({file})" in output
    assert json.loads((run / "results.json").read_text())["left_out_images"] == 3
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["ImageFolder"]
    assert {split: list(files) for split, files in state["left_out"].items()} == {
        split: [str(file)] for split, file in zip(("train", "val", "test"), bad, strict=True)
    }


@pytest.mark.slow
def test_resumed_run_leaves_out_the_same_files(spoiled, fit, monkeypatch):
    bad, options = spoiled
    whole = bad[2].with_stem("0").read_bytes()
    with pytest.raises(BrokenFiles, match="strict"):
        fit(*options, "--check", "strict")
    run = fit(*options)
    bad[0].unlink()  # as the warning says
    fit("--resume", str(run), "--trainer.max_epochs", "2")
    with monkeypatch.context() as patch:
        patch.setattr(Files, "read", lambda *_: decode(bad[0], 3, None))
        with pytest.raises(BrokenFiles, match=rf"1\.png: no such file; .* --resume {run}"):
            fit("--resume", str(run), "--trainer.max_epochs", "3")
    bad[2].write_bytes(whole)
    with pytest.raises(UserError, match=r"test had 5 samples and now has 6"):
        fit("--resume", str(run), "--trainer.max_epochs", "3")
