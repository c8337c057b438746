"""Weights of a backbone or an encoder alone serve a detector or a segmentation net, and all of them must fit."""

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torchvision import models

from kit.ground.errors import UserError
from kit.training.weights import find_loaded_weights, hash_tensors
from kit.zoo import SmpNet, TimmDetector, TorchvisionDetector, TorchvisionSegmenter

MOBILE = "mobilenet_v3_large"
PARTS = {  # a class, its arguments, and a net whose weights serve it
    "convnext": (TimmDetector, {"name": "test_convnext", "neck": 64}, lambda: timm.create_model("test_convnext")),
    "efficient": (
        TimmDetector,
        {"name": "test_efficientnet", "neck": 64},
        lambda: timm.create_model("test_efficientnet"),
    ),
    "vit": (
        TimmDetector,
        {"name": "test_vit", "neck": 64, "strides": [8, 16]},
        lambda: timm.create_model("test_vit"),
    ),
    "encoder": (SmpNet, {"encoder": "resnet18"}, lambda: models.resnet18()),
    "timm encoder": (SmpNet, {"encoder": "tu-test_resnet"}, lambda: timm.create_model("test_resnet")),
    "timm stages": (
        SmpNet,
        {"encoder": "tu-convnext_atto", "arch": "fpn"},
        lambda: timm.create_model("convnext_atto"),
    ),
    "encoder's run": (SmpNet, {"encoder": "resnet18"}, lambda: smp.create_model("fpn", "resnet18", None)),
    "torchvision detector": (TorchvisionDetector, {}, lambda: models.get_model(MOBILE)),
    "torchvision segmenter": (TorchvisionSegmenter, {}, lambda: models.get_model(MOBILE)),
}


@pytest.mark.parametrize(("kind", "arguments", "source"), PARTS.values(), ids=list(PARTS))
def test_weights_of_the_backbone_alone_are_loaded(kind, arguments, source):
    tensors = source().state_dict()
    torch.save(tensors, "weights.pt")
    _, start = find_loaded_weights(kind(4, weights="weights.pt", **arguments))
    values = {float(value.double().sum()) for value in tensors.values()}
    assert len(start.tensors) > 20 and start.sha256 == hash_tensors(tensors)
    assert all(float(value.detach().double().sum()) in values for value in start.tensors.values())


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [(TimmDetector, {"name": "resnet18"}), (SmpNet, {"encoder": "resnet18"}), (TorchvisionSegmenter, {})],
)
def test_weights_of_another_net_are_refused(kind, arguments):
    torch.save(models.resnet50().state_dict(), "weights.pt")
    with pytest.raises(UserError, match="does not fit"):
        kind(4, weights="weights.pt", **arguments)
