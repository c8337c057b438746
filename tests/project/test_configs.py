"""Every shipped config runs, on the CPU, without a network; every overlay is understood."""

from pathlib import Path

import pytest
import torch
import yaml
from fixtures import tiny_of

from kit.cli import verbs
from kit.cli.command_line import CLI

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TINY = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--data.batch_size", "4"]
TINY += ["--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1"]


DEAR = ("generation", "generation_mnist", "style", "segmentation_camvid")
DEAR += ("classification_finetune", "detection_bccd", "detection_finetune", "segmentation_finetune")
EACH = [
    pytest.param(file, marks=pytest.mark.slow if file.stem in DEAR else (), id=file.stem)
    for file in sorted(CONFIGS.glob("*.yaml"))
]


@pytest.mark.parametrize("config", EACH)
def test_config_runs_a_step(config, fit, capsys, tmp_path):
    tiny = tiny_of(config.stem.split("_")[0])
    folder = tmp_path / "data"
    folder.mkdir()
    run = fit("--config", str(config), *TINY, *tiny.arguments(yaml.safe_load(config.read_text()), folder))
    assert run.parent.name == config.stem
    assert (run / "checkpoints" / "best.ckpt").is_file()
    assert f"{tiny.METRIC} " in capsys.readouterr().out
    weights = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in weights.values())


@pytest.mark.parametrize("overlay", sorted((CONFIGS / "trainer").glob("*.yaml")), ids=lambda path: path.stem)
def test_overlay_sets_only_the_trainer(overlay, capsys):
    assert list(yaml.safe_load(overlay.read_text())) == ["trainer"]
    run = next(file for file in sorted(CONFIGS.glob("*.yaml")) if "_" not in file.stem)
    with pytest.raises(SystemExit) as ended:
        verbs.fit(["--config", str(run), "--config", str(overlay), "--print_config"])
    assert ended.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["trainer"].items() >= yaml.safe_load(overlay.read_text())["trainer"].items()
    assert {"model", "data", "early_stopping", "checkpoint"} <= set(printed)


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_size_of_training_images_is_given_only_if_it_differs(config):
    """Else `--data.image_size` would change evaluated images alone."""
    data = yaml.safe_load(config.read_text())["data"]["init_args"]
    arguments = [transform.get("init_args", {}) for transform in data.get("augment", ())]
    sizes = [given["size"] for given in arguments if "size" in given]
    assert all(data.get("image_size") and size != data["image_size"] for size in sizes)


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_config_is_accepted_as_untrusted(config):
    with pytest.raises(SystemExit):
        CLI(["--config", str(config), "--print_config"], untrusted=config)
