"""Fine-tuning by the command line: what the weights decide, what is stored, and what a resumed run requires."""

import shutil
from pathlib import Path

import pytest
import timm
import torch
import yaml

from kit.cli import verbs
from kit.ground.errors import UserError
from kit.zoo import timm_models

NAME = "test_efficientnet"
NET = ["--model.net.name", NAME, "--data.batch_size", "4", "--data.augment", "[]", "--check", "off"]
EPOCHS = ["--trainer.val_check_interval", "1.0", "--trainer.check_val_every_n_epoch", "1", "--trainer.max_steps", "-1"]


def saved(seed: int) -> str:
    torch.manual_seed(seed)
    file = f"weights_{seed}.pt"
    torch.save(timm.create_model(NAME).state_dict(), file)
    return file


@pytest.fixture
def given(repository, image_folder) -> list[str]:
    root = image_folder({"train": {"a": 8, "b": 8}, "test": {"a": 2, "b": 2}})
    config = repository / "configs" / "classification_finetune.yaml"
    return ["--config", str(config), "--data.root", str(root), *NET]


def state_of(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_resumed_run_continues_exactly_from_the_same_weights(fit, given, capsys):
    weights = ["--model.net.weights", saved(0)]
    straight = fit(
        *given, *EPOCHS, *weights, "--trainer.max_epochs", "2", "--name", "straight", "--model.schedule=null"
    )
    printed = capsys.readouterr().out
    assert " tensors, all but net.net.classifier; " in printed and "head fitted on the features of " in printed
    halved = fit(*given, *EPOCHS, *weights, "--trainer.max_epochs", "1", "--name", "halved", "--model.schedule=null")
    config = yaml.safe_load((halved / "config.yaml").read_text())
    assert len(config["weights_sha256"]) == 64
    assert config["data"]["init_args"]["mean"] == list(timm.get_pretrained_cfg(NAME).mean)
    best = torch.load(halved / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["ImageFolder"]["size"] == (160, 160)
    shutil.move("weights_0.pt", "moved.pt")
    capsys.readouterr()
    with pytest.raises(UserError, match=r"weights was 'weights_0\.pt' and is now"):
        fit("--resume", str(halved), "--trainer.max_epochs", "2", "--model.net.weights", saved(1))
    fit("--resume", str(halved), "--trainer.max_epochs", "2", "--model.net.weights", "moved.pt")
    assert "head fitted" not in capsys.readouterr().out
    for key, value in state_of(straight).items():
        assert torch.equal(value, state_of(halved)[key]), key


def test_best_of_head_and_training_is_kept(fit, given, capsys):
    run = fit(
        *given, *EPOCHS, "--model.net.weights", saved(0), "--trainer.max_epochs", "1", "--model.optimizer.lr", "0.5"
    )
    head = capsys.readouterr().out.partition("val/accuracy ")[2].split()[0]
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    score = next(value for key, value in best["callbacks"].items() if key.startswith("Checkpoint"))["best_model_score"]
    assert float(score) >= float(head)
    assert all(value.isfinite().all() for value in best["state_dict"].values())


def test_run_that_ends_before_its_first_validation_says_that_only_the_head_is_fitted(fit, given, capsys):
    ends = ["--trainer.check_val_every_n_epoch", "5", "--trainer.max_steps", "1"]
    run = fit(*given, *EPOCHS, "--model.net.weights", saved(0), *ends)
    assert "best.ckpt has only its head fitted" in capsys.readouterr().out
    assert torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["global_step"] == 0


def test_run_shorter_than_the_validation_interval_is_validated_at_its_end(fit, given):
    run = fit(*given, "--model.net.weights", saved(0), "--trainer.max_epochs", "2", "--trainer.max_steps", "-1")
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    overfitting = next(state for key, state in best["callbacks"].items() if key.startswith("Overfitting"))
    assert best["global_step"] == 6 and len(overfitting["history"]) == 2


def test_config_of_a_run_without_pretrained_weights_has_no_hash(fit, given):
    run = fit(*given, "--model.net.pretrained", "false", "--weights_sha256", "0" * 64, "--trainer.max_steps", "1")
    assert yaml.safe_load((run / "config.yaml").read_text())["weights_sha256"] is None


def test_trial_run_fits_no_head_and_leaves_no_checkpoint(given, capsys):
    verbs.fit([*given, "--model.net.weights", saved(0), "--trainer.fast_dev_run", "true"])
    assert "head fitted" not in capsys.readouterr().out
    assert not list(Path.cwd().rglob("*.ckpt"))


def test_packaged_weights_are_taken_without_a_network(fit, given, monkeypatch, capsys):
    package = Path("shipped_weights")
    package.mkdir()
    (package / "__init__.py").touch()
    tensors = timm.create_model(NAME).state_dict()
    torch.save({f"other.{i}": tensor for i, tensor in enumerate(tensors.values())}, package / "file.pth")
    monkeypatch.syspath_prepend(".")
    monkeypatch.setattr("kit.zoo.loading._is_reachable", lambda url: False)
    monkeypatch.setitem(timm_models.PACKAGED, NAME, ("shipped_weights", "file.pth", "MIT"))
    run = fit(*given, "--trainer.max_steps", "1", "--trainer.val_check_interval", "1")
    assert "weights: the package shipped_weights (MIT), " in capsys.readouterr().out
    verbs.test([str(run)])
    monkeypatch.setitem(timm_models.PACKAGED, NAME, ("not_installed", "file.pth", "MIT"))
    with pytest.raises(UserError, match=r"weights\]'.* or another config: .*classification_folder\.yaml"):
        verbs.fit([*given, "--model.net.name", NAME])
