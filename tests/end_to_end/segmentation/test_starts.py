"""Each net, from each start, is used as a checkpoint of it has it."""

import math
from functools import partial

import pytest
import segmentation_models_pytorch as smp
import starts
import timm
import torch
from torch.nn import functional as F
from torchvision import models

from kit.zoo import SmpNet, TorchvisionSegmenter
from project.segmentation import CnnUnet

LRASPP = "lraspp_mobilenet_v3_large"  # that of configs/segmentation_finetune.yaml
TORCHVISION = {name: partial(TorchvisionSegmenter, name=name) for name in (LRASPP, "deeplabv3_mobilenet_v3_large")}
ENCODER = "tu-test_resnet"  # of a few thousand weights
SMP = {arch: partial(SmpNet, arch=arch, encoder=ENCODER) for arch in ("unet", "fpn")}
NETS = [
    pytest.param(name, way, marks=[pytest.mark.slow] * (name != "CnnUnet"))
    for name in (*TORCHVISION, *SMP, "CnnUnet")
    for way in (starts.WAYS if name != "CnnUnet" else ("scratch",))
]


def tensors_of(name: str, way: str = "weights") -> dict[str, torch.Tensor]:
    """Those of the library's own net; of smp's only the encoder is ever downloaded, which is timm's here."""
    if name in SMP and way == "pretrained":
        return timm.create_model(ENCODER.removeprefix("tu-")).state_dict()
    if name in SMP:
        return smp.create_model(name, ENCODER, None, 3, 21).state_dict()
    auxiliary = True if way == "pretrained" and name != LRASPP else None  # torchvision's weights have it
    return models.get_model(name, weights=None, weights_backbone=None, aux_loss=auxiliary).state_dict()


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("unet", "pretrained"),
        (LRASPP, "pretrained"),
        *(pytest.param(name, "weights", marks=pytest.mark.slow) for name in (LRASPP, "unet")),
        pytest.param("deeplabv3_mobilenet_v3_large", "pretrained", marks=pytest.mark.slow),
    ],
)
def test_checkpoint_fits_any_start(name, way, monkeypatch):
    tensors = tensors_of(name, way)
    place = "net.encoder.model" if name in SMP and way == "pretrained" else "net"
    source = {f"{place}.{key}": value for key, value in tensors.items()}
    make = partial({**TORCHVISION, **SMP}[name], 3, 3)
    starts.same_net(make, starts.arguments(way, tensors, monkeypatch), source, torch.rand(2, 3, 64, 64))


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("name", ["CnnUnet", LRASPP, "fpn"])
def test_first_loss_is_that_of_guessing(name, classes):
    torch.manual_seed(0)
    images, targets = torch.randn(4, 3, 64, 64), torch.randint(0, classes, (4, 64, 64))
    with torch.no_grad():
        loss = F.cross_entropy({**TORCHVISION, **SMP, "CnnUnet": CnnUnet}[name](classes, 3)(images), targets)
    assert float(loss) == pytest.approx(math.log(classes), abs=0.2)


@pytest.mark.parametrize(("name", "way"), NETS)
def test_fit_test_predict_export_and_resume(name, way, fit, repository, monkeypatch, capsys, tmp_path, tiny):
    root = tiny.folders(tmp_path / "data", {"train": 6, "val": 2, "test": 2})
    config = str(repository / "configs" / "segmentation_finetune.yaml")
    given = ["--config", config, "--data.root", str(root), "--data.image_size", "[64, 64]", "--data.augment", "[]"]
    given += ["--data.batch_size", "2", "--data.cache", "ram", "--data.keep_aspect", "false"]
    given += ["--model.optimizer.lr", "0.01"]  # of an untrained net all classes are tied
    if name == "CnnUnet":
        given, net = [*given, "--model.net", "project.segmentation.CnnUnet"], {"widths": [4, 8]}
    else:
        start = starts.arguments(way, tensors_of(name, way), monkeypatch)
        kind, named = (
            ("SmpNet", {"arch": name, "encoder": ENCODER}) if name in SMP else ("TorchvisionSegmenter", {"name": name})
        )
        given += ["--model.net", f"kit.zoo.{kind}"]
        net = {**named, "pretrained": False, **start}
    starts.goes_all_the_way(fit, capsys, given, net)
