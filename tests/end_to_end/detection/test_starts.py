"""Each net, from each start, is used as a checkpoint of it has it."""

import pytest
import starts
import torch
from torch import nn
from torchvision import models
from torchvision.models.detection import fcos
from torchvision.models.resnet import Bottleneck, ResNet

from kit.zoo import TorchvisionDetector

MOBILE = "fasterrcnn_mobilenet_v3_large_320_fpn"  # that of configs/detection_finetune.yaml
NAMES = (MOBILE, "ssdlite320_mobilenet_v3_large", "fcos_resnet50_fpn", "retinanet_resnet50_fpn_v2")
NOTHING = [{"boxes": torch.tensor([[4.0, 5.0, 40.0, 50.0]]), "labels": torch.tensor([1])}]


def tensors_of(name: str) -> dict[str, torch.Tensor]:
    """Those of torchvision's own net, which has 91 classes, the same each time.

    As in a trained net, the scores of proposals differ. Nearly equal ones are left out in any order.
    """
    torch.manual_seed(0)
    tensors = models.get_model(name, weights=None, weights_backbone=None).state_dict()
    if (scores := "rpn.head.cls_logits.weight") in tensors:
        tensors[scores] *= 100
    return tensors


@pytest.mark.parametrize(
    ("name", "way"),
    [
        pytest.param(name, way, marks=[pytest.mark.slow] * ((name, way) != (MOBILE, "pretrained")))
        for name in NAMES
        for way in ("weights", "pretrained")
    ],
)
def test_checkpoint_fits_any_start(name, way, monkeypatch):
    tensors = tensors_of(name)

    def make(**start):
        return TorchvisionDetector(3, 3, name, **start)

    source = {f"net.{key}": value for key, value in tensors.items()}
    starts.same_net(make, starts.arguments(way, tensors, monkeypatch), source, torch.rand(1, 3, 64, 64))


def test_norms_of_pretrained_weights_are_fixed(monkeypatch):
    net = TorchvisionDetector(3, 3, MOBILE, **starts.arguments("weights", tensors_of(MOBILE), monkeypatch))
    net.eval()
    net.train()
    norms = [module for module in net.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    sum(net(torch.randn(1, 3, 64, 64), NOTHING).values()).backward()
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))
    assert all(parameter.grad is None for norm in norms for parameter in norm.parameters())
    assert next(parameter for parameter in net.backbone.parameters() if parameter.ndim == 4).grad is not None
    assert all(module.training for module in net.modules() if module not in norms)


def thin_resnet50(weights: None = None, progress: bool = True, **options: object) -> ResNet:
    """ResNet-50 with one block in each of its stages, since the whole net takes half a minute."""
    return ResNet(Bottleneck, [1, 1, 1, 1], **options)


NETS = [
    ("", "scratch"),
    *(pytest.param(name, way, marks=pytest.mark.slow) for name in NAMES for way in starts.WAYS),
]


@pytest.mark.parametrize(("name", "way"), NETS)
def test_fit_test_predict_export_and_resume(name, way, fit, repository, tiny, monkeypatch, capsys, tmp_path):
    tiny.coco_parts(tmp_path / "data", {"train": 4, "val": 2, "test": 2})
    config = str(repository / "configs" / "detection_finetune.yaml")
    net_class = "kit.zoo.TorchvisionDetector" if name else "project.detection.CnnFcos"
    # The images' own size: an untrained net may amplify a pixel that resizing rounds otherwise in the exported file.
    given = ["--config", config, "--data.root", str(tmp_path / "data"), "--data.image_size", "[22, 30]"]
    given += ["--data.batch_size", "2", "--data.cache", "ram", "--data.augment", "[]", "--model.net", net_class]
    given += ["--data.mean", "[0.485, 0.456, 0.406]", "--data.std", "[0.229, 0.224, 0.225]"]  # scores differ more
    monkeypatch.setattr(fcos, "resnet50", thin_resnet50)  # a thin RetinaNet gives boxes of equal scores in any order
    net = {"widths": [4, 8], "depth": 1, "levels": [1], "neck": 32, "score_thresh": 0.5}  # untrained, all score alike
    if name:
        net = {"name": name, "pretrained": False, **starts.arguments(way, tensors_of(name), monkeypatch)}
    starts.goes_all_the_way(fit, capsys, given, net)
