"""Every shipped config runs, on the CPU, without a network; every overlay is understood."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from project import cli

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
TINY = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--data.batch_size", "4"]
TINY += [f"--trainer.limit_{part}_batches=2" for part in ("train", "val", "test")]


def fake_mnist(root: Path) -> None:
    """Twelve images of noise in MNIST's own files."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        pixels = np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8)
        labels = (np.arange(60) % 10).astype(np.uint8)
        images = struct.pack(">IIII", 2051, 60, 28, 28) + pixels.tobytes()
        for name, content in {
            f"{part}-images-idx3-ubyte": images,
            f"{part}-labels-idx1-ubyte": struct.pack(">II", 2049, 60) + labels.tobytes(),
        }.items():
            (raw / name).write_bytes(content)
            (raw / f"{name}.gz").write_bytes(gzip.compress(content))


def arguments(config: Path, image_folder) -> list[str]:
    """What a config needs to run here: data of its kind, and no download."""
    run = yaml.safe_load(config.read_text())
    given = ["--config", str(config), *TINY]
    kind = run["data"]["class_path"].rsplit(".", 1)[1]
    if kind == "TorchvisionDataset":
        fake_mnist(Path("data"))
    elif kind == "ImageFolder":
        given += ["--data.root", str(image_folder({"train": {"a": 12, "b": 12}, "test": {"a": 2, "b": 2}}))]
    if run["model"]["init_args"]["net"].get("init_args", {}).get("pretrained"):
        given += ["--model.net.pretrained", "false"]
    return given


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_config_runs_a_step(config, image_folder, fit, capsys):
    run = fit(*arguments(config, image_folder))
    assert run.parent.name == config.stem
    assert (run / "checkpoints" / "best.ckpt").is_file()
    metrics = capsys.readouterr().out
    assert "test/accuracy " in metrics
    weights = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in weights.values())


@pytest.mark.parametrize("overlay", sorted((CONFIGS / "trainer").glob("*.yaml")), ids=lambda path: path.stem)
def test_overlay_says_what_the_machine_is_and_nothing_else(overlay, capsys):
    assert list(yaml.safe_load(overlay.read_text())) == ["trainer"]
    run = next(file for file in sorted(CONFIGS.glob("*.yaml")) if "_" not in file.stem)
    with pytest.raises(SystemExit) as ended:
        cli.fit(["--config", str(run), "--config", str(overlay), "--print_config"])
    assert ended.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["trainer"].items() >= yaml.safe_load(overlay.read_text())["trainer"].items()
    assert {"model", "data", "early_stopping", "checkpoint"} <= set(printed)
