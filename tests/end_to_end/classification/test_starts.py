"""Each net, from each start, is used as a checkpoint of it has it."""

import math
from functools import partial

import pytest
import starts
import timm
import torch
from torch.nn import functional as F
from torchvision import models

from kit.ground.errors import UserError
from kit.zoo import TimmNet, TorchvisionNet

TORCHVISION = ["mobilenet_v3_small", "densenet121", "squeezenet1_1", "googlenet", "inception_v3"]
TIMM = ["test_efficientnet", "resnet10t", "mobilenetv3_small_050", "deit_tiny_distilled_patch16_224", "convnext_atto"]
QUICK = {("mobilenet_v3_small", "pretrained"), ("test_efficientnet", "pretrained")}


def of(library, name):
    """The net's class, and the tensors of the library's own net, which has 1,000 classes."""
    if library == "timm":
        return TimmNet, timm.create_model(name).state_dict()
    more = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return TorchvisionNet, models.get_model(name, **more).state_dict()


@pytest.mark.parametrize(
    ("library", "name", "way"),
    [
        pytest.param(library, name, way, marks=[pytest.mark.slow] * ((name, way) not in QUICK))
        for library, names in (("torchvision", TORCHVISION), ("timm", TIMM))
        for name in names
        for way in ("weights", "pretrained")
    ],
)
def test_checkpoint_fits_any_start(library, name, way, monkeypatch):
    kind, tensors = of(library, name)
    size = {"inception_v3": 80, "deit_tiny_distilled_patch16_224": 224}.get(name, 64)
    source = {f"net.{key}": value for key, value in tensors.items()}
    start = starts.arguments(way, tensors, monkeypatch)
    starts.same_net(partial(kind, 3, 3, name), start, source, torch.rand(2, 3, size, size))


FAMILIES = ["efficientnet_lite0", "mobilenetv3_small_050", "mnasnet_small", "resnet10t"]


@pytest.mark.parametrize("classes", [2, 30])
@pytest.mark.parametrize("name", FAMILIES)
def test_first_loss_of_timm_is_that_of_guessing(name, classes):
    torch.manual_seed(0)
    images, targets = torch.randn(8, 3, 48, 48), torch.arange(8) % classes
    with torch.no_grad():
        loss = F.cross_entropy(TimmNet(classes, 3, name)(images), targets)
    assert float(loss) == pytest.approx(math.log(classes), abs=0.3)


def test_missing_weights_of_timm_are_named():
    with pytest.raises(UserError, match=r"timm has no model 'resnet10t.none'; did you mean 'resnet10t"):
        TimmNet(3, 3, "resnet10t.none", pretrained=True)


SMALL = ["--data.augment", "[]", "--data.batch_size", "4"]
TABLE = [("TorchvisionNet", "mobilenet_v3_small"), ("TorchvisionNet", "googlenet"), ("TimmNet", "test_vit")]
NETS = [
    ("TimmNet", "test_efficientnet", "weights"),
    *(pytest.param(kind, name, way, marks=pytest.mark.slow) for kind, name in TABLE for way in starts.WAYS),
    *(pytest.param(kind, None, "scratch", marks=pytest.mark.slow) for kind in ("CNN", "TextbookCNN")),
]


@pytest.mark.parametrize(("kind", "name", "way"), NETS)
def test_fit_test_predict_export_and_resume(kind, name, way, fit, repository, image_folder, monkeypatch, capsys):
    root = image_folder({"train": {"a": 8, "b": 8}, "test": {"a": 2, "b": 2}})
    config = str(repository / "configs" / "classification_folder.yaml")
    given = ["--config", config, *SMALL, "--data.image_size", "[64, 64]", "--data.root", str(root)]
    given += ["--model.net", f"kit.zoo.{kind}" if name else f"project.classification.{kind}"]
    net = {}
    if name:
        _, tensors = of("timm" if kind == "TimmNet" else "torchvision", name)
        net = {"name": name, **starts.arguments(way, tensors, monkeypatch)}
    starts.goes_all_the_way(fit, capsys, given, net)
