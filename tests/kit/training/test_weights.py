"""Weights are loaded from files of several formats, and anything else is refused."""

import argparse
import pickle
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn

from kit.ground.errors import UserError
from kit.training.weights import NotDownloaded, downloading, load_weights


def net(classes: int = 5, channels: int = 3) -> nn.Module:
    layers = {"stem": nn.Conv2d(channels, 4, 3), "norm": nn.BatchNorm2d(4), "head": nn.Linear(4, classes)}
    return nn.ModuleDict(layers)


def load(content: object, own: nn.Module | None = None) -> dict[str, torch.Tensor]:
    torch.save(content, "weights.pt")
    own = own or net()
    load_weights(own, "weights.pt", "head")
    return own.state_dict()


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{key}": value for key, value in net(7).state_dict().items()}


SAVED = {  # what people save
    "state dict": lambda: prefixed(""),
    "own run": lambda: {"state_dict": {**prefixed("net.net."), "class_weights": torch.ones(7)}, "epoch": 3},
    "own net": lambda: {"state_dict": prefixed("net.")},
    "references": lambda: {"model": prefixed(""), "optimizer": {}, "args": argparse.Namespace(lr=0.1)},
    "distributed": lambda: prefixed("module."),
    "old": lambda: {key: value for key, value in prefixed("").items() if "num_batches" not in key},
}


@pytest.mark.parametrize("saved", SAVED.values(), ids=list(SAVED))
def test_formats_of_saved_weights(saved):
    torch.manual_seed(1)
    own = load(saved())
    torch.manual_seed(1)
    source = net(7).state_dict()
    assert all(torch.equal(own[key], value) for key, value in source.items() if not key.startswith("head"))


@pytest.mark.parametrize("missing", ["norm.weight", "stem.weight", "stem.bias"])
def test_missing_tensor_is_reported(missing):
    state = net().state_dict()
    del state[missing]
    with pytest.raises(UserError, match=f"does not fit: 1 of 9 tensors are missing or have another shape, .*{missing}"):
        load(state)


def test_head_for_other_classes_is_not_loaded():
    own = net()
    before = own["head"].weight.detach().clone()
    headless = {key: value for key, value in net().state_dict().items() if not key.startswith("head")}
    for state in (net(7).state_dict(), headless):
        assert torch.equal(load(state, own)["head.weight"], before)


def test_weights_for_other_channels_keep_their_sum():
    state = net().state_dict()
    grey = load(state, net(channels=1))
    assert torch.allclose(grey["stem.weight"].sum(1), state["stem.weight"].sum(1))
    again = load(grey, net())
    assert torch.allclose(again["stem.weight"].sum(1), state["stem.weight"].sum(1))


def broken(name: str) -> str:
    if name == "text.pt":
        Path(name).write_text("# README\n")
    elif name == "list.pt":
        Path(name).write_bytes(pickle.dumps([1, 2]))
    elif name == "saved_list.pt":
        torch.save([1, 2], name)
    elif name == "whole.pt":
        torch.save(net(), name)
    elif name == "nothing.pt":
        torch.save({"epoch": 3}, name)
    else:
        Path(name).write_bytes(b"no header")
    return name


@pytest.mark.parametrize(
    "name", ["text.pt", "list.pt", "saved_list.pt", "whole.pt", "nothing.pt", "cut.pt", "cut.safetensors"]
)
def test_file_without_weights_is_reported(name):
    with pytest.raises(UserError, match=rf"^{name} (cannot be read as|holds no) weights[^\n]*$"):
        load_weights(net(), broken(name), "head")


@pytest.mark.parametrize("error", [URLError(OSError("no route")), FileNotFoundError("not in the local cache")])
def test_failed_download_is_one_line_with_its_first_cause(error):
    try:
        raise OSError("no route") from None
    except OSError as cause:
        error.__context__ = cause
    expected = r"weights of resnet18 .*\(no route\).* --model\.net\.pretrained false"
    with pytest.raises(NotDownloaded, match=expected), downloading("resnet18"):
        raise error
    with pytest.raises(ValueError, match="another error"), downloading("resnet18"):
        raise ValueError("another error")


def trunk(width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Conv2d(width, 6, 1))


def test_trunk_of_a_run_is_loaded(capsys):
    own, source = trunk(), trunk()
    state = {f"net.backbone.trunk.{key}": value for key, value in source.state_dict().items()}
    Path("run/checkpoints").mkdir(parents=True)
    data = {"mean": [0.5] * 3, "std": [0.2] * 3, "size": (8, 8), "in_channels": 3}
    content = {"state_dict": {**state, "net.head.weight": torch.ones(2)}, "Digits": data}
    torch.save(content, "run/checkpoints/best.ckpt")
    for given in ("run", "run/checkpoints/best.ckpt"):
        load_weights(own, given)
        assert all(torch.equal(value, source.state_dict()[key]) for key, value in own.state_dict().items())
    assert own.initial_weights.mean == [0.5] * 3
    assert own.initial_weights.image_size is None  # a trunk suits images of any size
    assert capsys.readouterr().out == ""


def test_tensors_that_do_not_fit_a_trunk_are_named(capsys):
    own, source = trunk(), trunk()
    state = {f"trunk.{key}": value for key, value in source.state_dict().items() if key != "1.weight"}
    torch.save({**state, "trunk.0.weight": torch.ones(5, 3, 3, 3), "trunk.3.bias": torch.ones(2)}, "weights.pt")
    before = own[0].weight.clone()
    load_weights(own, "weights.pt")
    assert torch.equal(own[0].weight, before) and torch.equal(own[2].weight, source[2].weight)
    assert capsys.readouterr().out.rstrip().endswith(": 0.weight, 1.weight")


@pytest.mark.parametrize(
    ("content", "message"),
    [({"net.head.weight": torch.ones(4, 3, 3, 3)}, "none of its tensors fits"), (None, "no file of weights at")],
)
def test_trunk_that_cannot_be_loaded_is_refused(content, message):
    if content:
        torch.save(content, "weights.pt")
    with pytest.raises(UserError, match=message):
        load_weights(trunk(), "weights.pt")
