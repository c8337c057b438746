"""Every shipped config runs, on the CPU, without a network; every overlay is understood."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
import yaml

from project import cli

TESTS = Path(__file__).resolve().parent
CONFIGS = TESTS.parent / "configs"
TINY = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--data.batch_size", "4"]
TINY += [f"--trainer.limit_{part}_batches=2" for part in ("train", "val", "test")]


def arguments(config: Path, folder: Path) -> list[str]:
    """What a config needs to run here: its slice's `tests/SLICE/tiny.py` says it."""
    run = yaml.safe_load(config.read_text())
    file = TESTS / config.stem.split("_")[0] / "tiny.py"
    spec = importlib.util.spec_from_file_location(f"tiny_{file.parent.name}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return ["--config", str(config), *TINY, *module.tiny_data(run, folder)]


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_config_runs_a_step(config, fit, tmp_path):
    run = fit(*arguments(config, tmp_path))
    assert run.parent.name == config.stem
    assert (run / "checkpoints" / "best.ckpt").is_file()
    assert any(key.startswith(("test/", "val/")) for key in json.loads((run / "results.json").read_text()))
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
