from functools import partial

import pytest
import torch
from refused import assert_refused
from torchvision.ops import box_iou

from kit.ground.errors import UserError
from kit.zoo import TimmDetector, TorchvisionDetector
from kit.zoo.detection import PadAndFilter, limit_detections
from project.detection import CnnFcos

TINY = {"widths": [4, 6, 8], "depth": [1, 1, 2], "levels": [1], "neck": 32}


def targets():
    return [
        {"boxes": torch.tensor([[4.0, 5.0, 40.0, 50.0], [30.0, 10.0, 70.0, 60.0]]), "labels": torch.tensor([1, 3])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
    ]


def step_and_prediction(net, images):
    losses = net.train()(images, targets())
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    with torch.no_grad():
        found = net.eval()(images)
    assert len(found) == len(images)
    for one in found:
        assert one["boxes"].shape == (len(one["scores"]), 4) and len(one["labels"]) == len(one["scores"])
        assert not len(one["labels"]) or 1 <= one["labels"].min() <= one["labels"].max() <= 3
        assert (one["boxes"] >= 0).all()
        assert (one["boxes"] <= torch.tensor([images.shape[3], images.shape[2]] * 2)).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(64, 96), (61, 77)])
def test_net_of_the_project(channels, size):
    step_and_prediction(CnnFcos(3, channels, score_thresh=0.0, **TINY), torch.randn(2, channels, *size))


@pytest.mark.parametrize(("size", "stride"), [((64, 96), 4), ((61, 77), 4)])
def test_anchors_lie_on_the_strides_for_any_size(size, stride):
    net = CnnFcos(3, **TINY)
    batch, _ = net.transform(torch.zeros(1, 3, *size))
    (features,) = net.backbone(batch.tensors).values()
    anchors = net.anchor_generator(batch, [features])[0]
    rows, columns = features.shape[-2:]
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert batch.image_sizes == [size]
    assert torch.equal(centres[1] - centres[0], torch.tensor([float(stride), 0.0]))
    assert torch.equal(centres[columns] - centres[0], torch.tensor([0.0, float(stride)]))
    assert len(anchors) == rows * columns and rows * stride >= size[0]


@pytest.mark.parametrize("size", [(64, 96), (61, 77)])
def test_each_level_of_the_pyramid_has_its_stride(size):
    net = CnnFcos(3, score_thresh=0.0, **{**TINY, "levels": [1, 2]})
    step_and_prediction(net, torch.randn(2, 3, *size))
    batch, _ = net.transform(torch.zeros(1, 3, *size))
    first, second = net.backbone(batch.tensors).values()
    assert first.shape[-2:] == (batch.tensors.shape[2] // 4, batch.tensors.shape[3] // 4)
    assert second.shape[-2:] == (batch.tensors.shape[2] // 8, batch.tensors.shape[3] // 8)


def test_levels_of_the_pyramid_see_all_deeper_levels():
    pyramid = CnnFcos(3, **{**TINY, "levels": [0, 1]}).backbone.eval()
    before = pyramid(torch.ones(1, 3, 64, 64))
    torch.nn.init.ones_(pyramid.laterals[2].bias)  # of the deepest level, which predicts no boxes
    after = pyramid(torch.ones(1, 3, 64, 64))
    assert all(not torch.equal(before[level], after[level]) for level in ("0", "1"))


def test_anchors_have_the_strides_as_their_sides():
    net = CnnFcos(3, **{**TINY, "stem_stride": 1, "levels": [1, 2]})
    assert [(anchors[0, 2:] - anchors[0, :2]).tolist() for anchors in net.anchor_generator.cell_anchors] == [
        [2, 2],
        [4, 4],
    ]


def test_number_of_parameters_of_the_config():
    assert sum(p.numel() for p in CnnFcos(3).parameters()) == pytest.approx(0.59e6, rel=0.01)


@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn"])
@pytest.mark.parametrize("channels", [1, 3])
def test_torchvision(name, channels):
    net = TorchvisionDetector(3, channels, name)
    step_and_prediction(net, torch.randn(2, channels, 64, 96))
    assert net.backbone is net.net.backbone


def test_torchvision_does_not_resize_and_normalise():
    images = torch.randn(2, 3, 64, 96).to(memory_format=torch.channels_last)
    for multiple, shape in ((32, (64, 96)), (40, (80, 120))):
        batch, same = PadAndFilter(multiple)(images, targets())
        assert batch.tensors.shape[-2:] == shape and batch.image_sizes == [(64, 96)] * 2
        assert torch.equal(batch.tensors[:, :, :64, :96], images)
        assert batch.tensors.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(same[0]["boxes"], targets()[0]["boxes"])


def test_weights_from_a_file_except_the_heads():
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    torch.manual_seed(0)
    source = TorchvisionDetector(7, 3, name).net.state_dict()
    torch.save(source, "weights.pt")
    grey, loaded = (TorchvisionDetector(3, channels, name, weights="weights.pt").net for channels in (1, 3))
    for key, value in loaded.state_dict().items():
        own = "box_predictor" in key
        assert own or torch.equal(value, source[key]), key
    first = "backbone.body.0.0.weight"
    assert torch.allclose(grey.state_dict()[first].sum(1), source[first].sum(1), atol=1e-5)


@pytest.mark.parametrize("name", ["CnnFcos", "ssdlite320_mobilenet_v3_large"])
def test_detections_of_different_classes_overlap_unless_told_otherwise(name):
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 96)
    make = partial(CnnFcos, score_thresh=0.0, **TINY) if name == "CnnFcos" else partial(TorchvisionDetector, name=name)
    for class_agnostic in (False, True):
        net = make(3, class_agnostic_nms=class_agnostic).eval()
        inner = getattr(net, "net", net)
        inner.score_thresh = 0.0
        if name == "CnnFcos":
            torch.nn.init.constant_(net.head.regression_head.bbox_reg.bias, 3.0)  # boxes of several pixels
        with torch.no_grad():
            found = net(images)
        overlaps = [box_iou(one["boxes"], one["boxes"]).triu(1).max() for one in found]
        assert all((overlap <= inner.nms_thresh + 1e-6) is class_agnostic for overlap in map(float, overlaps))


def test_mistakes_are_one_line():
    assert_refused(CnnFcos, levels="[-1]", neck=0, convs=-1, score_thresh=2, nms_thresh=-1, depth="[1, 0]")
    for name in ("fasterrcnn_resnet50_fpn_v3", "resnet18"):
        with pytest.raises(UserError, match=f"no model '{name}'"):
            TorchvisionDetector(3, 3, name)
    with pytest.raises(UserError, match=r"did you mean 'fasterrcnn_resnet50_fpn_v2'"):
        TorchvisionDetector(3, 3, "fasterrcnn_resnet50_fpn_v3")
    with pytest.raises(UserError, match="multiple of 32"):
        CnnFcos(3, neck=20)
    with pytest.raises(UserError, match="between 0 and 1"):
        CnnFcos(3, widths=[4, 4], depth=1, levels=[2])
    for levels in ([], [1, 0], [0, 0], [0, 2]):
        with pytest.raises(UserError, match="consecutive"):
            CnnFcos(3, widths=[4, 4], depth=1, levels=levels)
    for stride in (1, 3):  # torchvision's anchors would have the sides 0 and 4
        with pytest.raises(UserError, match=f"level 0 has the stride {stride}, but strides must be even"):
            CnnFcos(3, **{**TINY, "stem_stride": stride, "levels": [0, 1]})
    with pytest.raises(UserError, match="3 depths for 2 widths"):
        CnnFcos(3, widths=[4, 4], depth=[1, 1, 1], levels=[1])


NETS = {
    "CnnFcos": lambda: CnnFcos(3, **TINY),
    **{
        name: lambda name=name: TorchvisionDetector(3, 3, name)
        for name in ("fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large", "retinanet_resnet50_fpn")
    },
}
BEFORE = {"CnnFcos": (1000, 100), "ssdlite320_mobilenet_v3_large": (300, 300), "retinanet_resnet50_fpn": (1000, 300)}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * n.startswith("retina")) for n in NETS])
def test_limit_detections(name):
    net = NETS[name]()
    inner = getattr(net, "net", net)
    if name.startswith("fasterrcnn"):
        limit_detections(net, 100)
        assert net.net.roi_heads.detections_per_img == 100 and net.net.rpn.post_nms_top_n() == 2000
        net.eval()
        assert (net.net.rpn.pre_nms_top_n(), net.net.rpn.post_nms_top_n()) == (150, 150)  # as torchvision has them
        limit_detections(net, 250)
        assert (net.net.rpn.pre_nms_top_n(), net.net.rpn.post_nms_top_n()) == (375, 375)
        assert net.net.roi_heads.detections_per_img == 250
        return
    candidates, detections = BEFORE[name]
    assert (inner.topk_candidates, inner.detections_per_img) == (candidates, detections)
    limit_detections(net, 100)
    assert (inner.topk_candidates, inner.detections_per_img) == (candidates, 100)
    limit_detections(net, 1000)
    assert (inner.topk_candidates, inner.detections_per_img) == (10 * candidates, 1000)


@pytest.mark.parametrize("name", ["CnnFcos", "TimmDetector", *[name for name in NETS if "mobilenet" in name]])
def test_boxes_are_exact_under_autocast(name):
    net = TimmDetector(3, 3, "test_resnet", neck=64) if name == "TimmDetector" else NETS[name]()
    for parameter in net.parameters():  # all locations then predict the same, and no number needs more than 16 bits
        torch.nn.init.constant_(parameter, 0.5 if parameter.ndim == 1 else 0)
    images = torch.zeros(2, 3, 64, 600)
    boxes = torch.tensor([[401.3, 10.7, 447.9, 51.1], [523.3, 9.3, 555.7, 47.9]])
    objects = [{"boxes": boxes, "labels": torch.tensor([1, 3])}] * 2
    losses, detections = [], []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled), torch.no_grad():
            losses.append({key: float(value) for key, value in net.train()(images, objects).items()})
            detections.append(net.eval()(images))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for exact, half in zip(*detections, strict=True):
        assert half["boxes"].dtype == torch.float32 and exact["boxes"].max() > 512
        assert torch.equal(half["boxes"], exact["boxes"])
