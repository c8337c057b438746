"""Ways to start a net, without a network; and the way of a run from there: fit, test, predict, export, --resume."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from kit.cli import verbs
from kit.exporting import export
from kit.prediction.command import predict

WAYS = ("scratch", "weights", "pretrained")


def arguments(way: str, tensors: dict[str, Tensor], patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the net's arguments that make it start so.

    Args:
        way: one of `WAYS`.
        tensors: of the library's own net, with another number of classes: what its file or its download holds.
        patch: has each library "download" them.
    """
    if way == "weights":
        torch.save(tensors, "weights.pt")
        return {"weights": "weights.pt"}
    if way == "pretrained":
        _download(tensors, patch)
        return {"pretrained": True}
    return {}


def _download(tensors: dict[str, Tensor], patch: pytest.MonkeyPatch) -> None:
    import segmentation_models_pytorch as smp
    import timm
    from torchvision.models._api import WeightsEnum

    def copied(*_, **__) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in tensors.items()}

    patch.setattr(WeightsEnum, "get_state_dict", copied)
    patch.setattr(timm.models._builder, "load_state_dict_from_hf", copied)
    patch.setattr(timm.models._builder, "load_state_dict_from_url", copied)
    patch.setattr(smp.encoders, "hf_hub_download", lambda *_, **__: "nowhere")
    patch.setattr(smp.encoders, "load_file", copied)


def same_net(make: Callable[..., nn.Module], start: dict[str, Any], source: dict[str, Tensor], images: Tensor) -> None:
    """Assert that a net begins with the tensors of its start, and that a checkpoint of it can be used.

    Args:
        make: builds the net.
        start: as `arguments` gives it.
        source: the tensors that the net must have where its own have the same shape, by their names in it.
        images: Float[B C H W], for which both nets give the same.
    """
    torch.manual_seed(0)
    net = make(**start).eval()
    own = net.state_dict()
    shared = [name for name in source if name in own and own[name].shape == source[name].shape]
    assert not start or len(shared) > len(source) / 2
    for name in shared if start else ():
        assert torch.equal(own[name], source[name]), name
    used = make(**{"weights": None, "pretrained": False} if start else {}).eval()
    used.load_state_dict(own)  # exactly its tensors
    with torch.no_grad():
        expected, found = net(images), used(images)
    for one, other in zip(expected, found, strict=True):
        if isinstance(one, dict):
            assert all(torch.equal(one[key], other[key]) for key in one)
        else:
            assert torch.equal(one, other)


def goes_all_the_way(
    fit: Callable[..., Path],
    capsys: pytest.CaptureFixture,
    given: list[str],
    net: dict[str, Any],
    images: bool = True,
) -> None:
    """Assert that a run ends, and that `test`, `predict`, `export` and `--resume` take it.

    Args:
        fit: the fixture.
        given: the command line of `fit`, without the net's arguments.
        net: the net's arguments.
        images: whether the task takes images.
    """
    arguments = [word for key, value in net.items() for word in (f"--model.net.{key}", json.dumps(value).strip('"'))]
    quick = ["--trainer.max_epochs", "1", "--data.num_workers", "0", "--check", "off", "--dashboard.enabled", "false"]
    run = fit(*given, *arguments, *quick)
    reported = json.loads((run / "results.json").read_text())
    capsys.readouterr()
    verbs.test([str(run)])
    table = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("test/", "val/")))
    assert table and table == {key: f"{reported[key]:.4f}" for key in table}
    Image.new("RGB", (40, 50), "red").save("one.png")
    predict([str(run), "one.png"] if images else [str(run), "--num_samples", "2"])
    assert any((run / "predictions").iterdir())
    export([str(run)])
    assert (run / "exports" / "model.onnx").is_file()  # it is kept if it agrees with PyTorch
    fit("--resume", str(run), "--trainer.max_epochs", "2")
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 2 or last["global_step"] > 0
