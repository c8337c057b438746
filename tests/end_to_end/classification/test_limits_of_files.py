"""What a checkpoint or a run may take of the machine: its own tensors' size, and what the user says."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import Namespace

from kit.checkpoints import checkpoint
from kit.cli import verbs
from kit.ground.checkpoint_limits import Budget
from kit.ground.errors import UserError
from kit.ground.threads import available_cores
from kit.safeguards.resume import restarting
from project import load
from project.classification import CNN, Digits

TAUGHT = {
    "class_names": ["a", "b"],
    "in_channels": 1,
    "mean": [0.5],
    "std": [0.5],
    "size": [8, 8],
    "keep_aspect": False,
}


def saved(net: dict[str, Any] | None = None, **more: Any) -> Path:
    """A checkpoint of a small classifier; `net` and `more` are what its hyper-parameters say beside."""
    state = {f"net.{name}": tensor for name, tensor in CNN(2, 1, [4], 1).state_dict().items()}
    init_args = {"widths": [4], "depth": 1, **(net or {})}
    model = {
        "_class_path": "project.classification.Classifier",
        "net": {"class_path": "project.classification.CNN", "init_args": init_args},
        "num_classes": 2,
        "in_channels": 1,
        **more,
    }
    data = {"_class_path": "project.classification.Digits", "num_workers": 40, "cache": "disk", "cache_dir": "theirs"}
    content = {"hyper_parameters": model, "datamodule_hyper_parameters": data, "Digits": TAUGHT, "state_dict": state}
    torch.save(content, "some.ckpt")
    return Path("some.ckpt")


def test_model_with_the_size_of_its_tensors_is_built():
    assert load(saved()).task.net(torch.zeros(1, 1, 8, 8)).shape == (1, 2)


TOO_LARGE = [
    {"net": {"depth": 10**9}},
    {"net": {"widths": [100_000, 100_000]}},
    {"num_classes": 10**9},
    {"in_channels": 10**9},
]


@pytest.mark.parametrize("more", TOO_LARGE, ids=lambda more: str(more)[:40])
def test_model_larger_than_its_tensors_is_refused(more):
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"some\.ckpt is refused: the model that it describes is much larger"):
        load(saved(**more))
    assert time.monotonic() - begun < 30  # a second on a quiet machine


@pytest.mark.parametrize("more", [{"net": {"widths": [4] * 20_000}}, {"class_names": ["a"] * 50_000}], ids=["a", "b"])
def test_too_long_list_is_refused(more):
    with pytest.raises(UserError, match=r"a list of [25]0,000 values"):
        load(saved(**more))


def test_numbers_are_limited_by_the_bytes_of_the_file():
    file = Path("some.ckpt")
    file.write_bytes(bytes(1_000_000))
    with Budget(file):
        torch.empty(33_000, 1_000)
    with pytest.raises(UserError, match="much larger"), Budget(file):
        torch.empty(33_001, 1_000, device="meta")


def test_copied_layers_are_counted():
    Path("some.ckpt").touch()
    layer = torch.nn.TransformerEncoderLayer(64, 2)
    with pytest.raises(UserError, match="much larger"), Budget(Path("some.ckpt")):
        torch.nn.TransformerEncoder(layer, 10**6)


def test_machine_arguments_come_from_the_user():
    net = {"class_path": "kit.zoo.TorchvisionNet", "init_args": {"pretrained": True, "weights": "x.pt"}}
    mixing = {"class_path": "torchvision.transforms.v2.MixUp", "init_args": {"pretrained": True}}
    _, found = checkpoint.load(saved(compile=True, mixing=[mixing]))
    assert "num_workers" not in found["data"]["init_args"] and "cache" not in found["data"]["init_args"]
    assert "cache_dir" not in found["data"]["init_args"] and "compile" not in found["model"]["init_args"]
    assert found["model"]["init_args"]["mixing"][0]["init_args"] == {"pretrained": False}
    content = torch.load("some.ckpt", weights_only=True)
    content["hyper_parameters"] |= {"net": net, "mixing": None}
    published = {"_class_path": "project.classification.TorchvisionDataset", "dataset": "torchvision.datasets.MNIST"}
    torch.save({**content, "datamodule_hyper_parameters": published, "TorchvisionDataset": TAUGHT}, "some.ckpt")
    _, found = checkpoint.load(Path("some.ckpt"))
    assert found["model"]["init_args"]["net"]["init_args"] == {"pretrained": False, "weights": None}
    assert found["data"]["init_args"]["download"] is False
    sound = torch.load(saved(), weights_only=True)
    torch.save({**sound, "datamodule_hyper_parameters": published, "TorchvisionDataset": TAUGHT}, "some.ckpt")
    with pytest.raises(UserError, match=r"no data set in .*data .* or --data\.download true"):
        verbs.test(["some.ckpt", "--trainer.accelerator", "cpu"])


def test_resumed_run_uses_at_most_the_cores_of_this_machine(capsys):
    data, trainer = Digits(num_workers=4000), SimpleNamespace(num_devices=4000, max_epochs=1)
    with pytest.raises(UserError, match=r"the run has 4000 devices, .* add --trainer\.devices N"):
        restarting.check(trainer, data, None, force=False)
    trainer.num_devices = 1
    restarting.check(trainer, data, None, force=False)
    assert data.num_workers == available_cores()
    assert "the run had 4000 workers" in capsys.readouterr().err


@pytest.mark.parametrize(("key", "start", "without"), [("pretrained", True, False), ("weights", "a.pth", None)])
def test_resumed_run_loads_no_pretrained_weights(key, start, without):
    before = Namespace({f"{restarting.NET}.{key}": start, f"{restarting.NET}.frozen_norms": None})
    after = restarting.without_pretraining(before)
    assert (after[f"{restarting.NET}.{key}"], after[f"{restarting.NET}.frozen_norms"]) == (without, True)
    assert before[f"{restarting.NET}.{key}"] == start


def test_config_with_a_larger_model_than_the_checkpoint_is_refused():
    digits = Path(__file__).parents[3] / "configs" / "classification.yaml"
    short = ["--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1", "--check", "off"]
    short += ["--trainer.limit_test_batches", "1", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
    verbs.fit(["--config", str(digits), "--model.net.widths", "[4]", *short])
    run = Path("runs/classification/version_0")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["init_args"]["net"]["init_args"]["depth"] = 100_000
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"last\.ckpt is refused: the model that it describes is much larger"):
        verbs.fit(["--resume", str(run)])
