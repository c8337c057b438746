import copy
import json
import shutil
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from tiny_transformers import DEIMV2_DINOV3, DETECTORS, SEGMENTERS
from torch import nn
from torch.nn import functional as F

from kit.ground.errors import UserError
from kit.training.weights import NotDownloaded
from kit.zoo import TransformersDetector, TransformersSegmenter
from kit.zoo.transformers_detection import KIND, to_detections, to_labels
from kit.zoo.transformers_segmentation import SUPPORTED, pixel_logits

NOTHING = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
TWO = {"boxes": torch.tensor([[4.0, 5.0, 40.0, 50.0], [30.0, 10.0, 70.0, 60.0]]), "labels": torch.tensor([1, 3])}


def folder(name: str) -> str:
    """Write a folder with a configuration and with weights for 7 classes, as a downloaded net has it."""
    import transformers

    kind = KIND if name in DETECTORS else SUPPORTED[name][0]
    config = transformers.AutoConfig.for_model(**{**DETECTORS, **SEGMENTERS}[name], num_labels=7)
    getattr(transformers, kind).from_config(config).save_pretrained("net")
    return "net"


def test_boxes_become_shares_and_labels_begin_at_0():
    labels = to_labels({"boxes": torch.tensor([[10.0, 20.0, 50.0, 30.0]]), "labels": torch.tensor([3])}, (50, 100))
    assert labels["boxes"].tolist() == [[pytest.approx(value) for value in (0.3, 0.5, 0.4, 0.2)]]
    assert labels["class_labels"].tolist() == [2]


def test_detections_are_the_highest_scores_of_any_query_and_class():
    logits = torch.tensor([[[-9.0, 2.0, 1.0], [-9.0, -9.0, 3.0]]])
    boxes = torch.tensor([[[0.3, 0.5, 0.4, 0.2], [0.5, 0.5, 1.0, 1.0]]])
    (detected,) = to_detections(logits, boxes, (50, 100), 3)
    assert detected["labels"].tolist() == [3, 2, 3]
    assert torch.allclose(detected["scores"], torch.tensor([3.0, 2.0, 1.0]).sigmoid())
    small, large = [10.0, 20.0, 50.0, 30.0], [0.0, 0.0, 100.0, 50.0]
    assert torch.allclose(detected["boxes"], torch.tensor([large, small, small]), atol=1e-4)


def test_boxes_of_half_precision_reach_the_edges():
    boxes = torch.tensor([[[0.5, 0.5, 1.0, 1.0]]], dtype=torch.bfloat16)
    (detected,) = to_detections(torch.zeros(1, 1, 1), boxes, (517, 1031), 1)
    assert detected["boxes"].tolist() == [[0, 0, 1031, 517]]


def test_detections_equal_those_of_transformers():
    from types import SimpleNamespace

    from transformers import RTDetrImageProcessor

    outputs = SimpleNamespace(logits=torch.randn(2, 6, 4), pred_boxes=torch.rand(2, 6, 4) / 4 + 0.3)
    expected = RTDetrImageProcessor().post_process_object_detection(outputs, 0, [(50, 80)] * 2)
    for one, other in zip(to_detections(outputs.logits, outputs.pred_boxes, (50, 80), 6), expected, strict=True):
        assert torch.allclose(one["boxes"], other["boxes"], atol=1e-4) and torch.equal(one["scores"], other["scores"])
        assert torch.equal(one["labels"], other["labels"] + 1)


@pytest.mark.parametrize("name, channels", [*product(DETECTORS, (1, 3)), ("deimv2_dinov3", 3)])
def test_losses_and_detections_with_padding_and_empty_images(name, channels):
    torch.manual_seed(0)
    net = TransformersDetector(3, channels, config={**DETECTORS, "deimv2_dinov3": DEIMV2_DINOV3}[name])
    assert any(isinstance(module, nn.Conv2d) for module in net.backbone.modules())
    images = torch.randn(2, channels, 61, 77)  # no stride divides these sides
    losses = net(images, [TWO, NOTHING])
    losses["loss"].backward()
    assert losses["foreground"] == 2 and losses["loss"].isfinite()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)  # as DDP needs it
    net.zero_grad()
    empty = net(images, [NOTHING, NOTHING])["loss"]
    empty.backward()
    assert empty.isfinite() and all(p.grad is not None for p in net.parameters() if p.requires_grad)
    with torch.no_grad():
        for found in net.eval()(images):
            assert len(found["boxes"]) == 5 and set(found["labels"].tolist()) <= {1, 2, 3}
            assert (found["boxes"] >= 0).all() and (found["boxes"] <= torch.tensor([77.0, 61, 77, 61])).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_loss_of_outputs_that_are_not_finite_is_nan(name):
    net = copy.deepcopy(TransformersDetector(3, 3, config=DETECTORS[name]))
    loss = net(torch.full((1, 3, 64, 64), torch.nan), [TWO])["loss"]
    loss.backward()
    assert loss.isnan()


def test_losses_of_the_parts_of_a_batch_add_up_closely():
    torch.manual_seed(0)
    net = TransformersDetector(3, 3, config=DETECTORS["rf_detr"])
    images, targets = torch.randn(3, 3, 56, 84), [TWO, NOTHING, {key: value[:1] for key, value in TWO.items()}]
    whole = net(images, targets)
    parts = [net(images[i : i + 1], targets[i : i + 1]) for i in range(3)]
    assert [int(part["foreground"]) for part in parts] == [2, 0, 1] and int(whole["foreground"]) == 3
    total = sum(float(part["loss"].detach() * part["foreground"].clamp(min=1)) for part in parts)
    assert total == pytest.approx(3 * float(whole["loss"].detach()), rel=1e-4) and not net.additive


def test_main_loss_leaves_out_denoising_queries():
    """As of transformers 5.18; before, it was that of all queries."""
    net = TransformersDetector(3, 3, config=DETECTORS["rt_detr_v2"])
    images, labels = torch.randn(1, 3, 64, 64), [to_labels(TWO, (64, 64))]
    seen = []
    net.net.loss_function = lambda logits, *args, **kwargs: (seen.append(kwargs), (logits.sum(), {}, None))[1]
    net.net(images, labels=labels)
    split = seen[0]["denoising_meta_values"]["dn_num_split"]
    assert split[0] > 0 and split[1] == 5


@pytest.mark.parametrize("name", SEGMENTERS)
def test_segmenters_have_logits_of_the_size_of_the_images(name):
    for channels in (1, 3):
        net = TransformersSegmenter(4, channels, config=SEGMENTERS[name])
        images, targets = torch.randn(2, channels, 61, 77), torch.randint(0, 4, (2, 61, 77))
        loss = F.cross_entropy(net(images), targets)
        assert float(loss.detach()) == pytest.approx(1.386, abs=0.3)  # ln 4
        loss.backward()
        assert net(images).shape == (2, 4, 61, 77)
        assert all(p.grad is not None for p in net.parameters() if p.requires_grad)
    assert isinstance(net.head, (nn.Linear, nn.Conv2d))


def test_pixel_logits_are_the_shares_of_the_classes():
    classes = torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]]).log()  # 2 masks, 2 classes and "nothing"
    masks = torch.tensor([[[[0.0]], [[-100.0]]]])  # probabilities 0.5 and 0
    assert torch.allclose(pixel_logits(classes, masks).softmax(1).flatten(), torch.tensor([2 / 3, 1 / 3]), atol=1e-5)


@pytest.mark.parametrize("name", [*DETECTORS, *SEGMENTERS])
def test_pretrained_weights_of_a_folder_except_the_head(name):
    import transformers

    is_detector = name in DETECTORS
    kind = TransformersDetector if is_detector else TransformersSegmenter
    source = folder(name)
    auto = getattr(transformers, KIND if is_detector else SUPPORTED[name][0])
    tensors = auto.from_pretrained("net").state_dict()
    net = kind(3, 3, source, pretrained=True)
    own = net.net.state_dict()
    equal = [key for key, value in own.items() if key in tensors and torch.equal(value, tensors[key])]
    assert len(equal) > 0.8 * len(own)
    heads = ("class", "score_head", "criterion.empty_weight")
    assert all(any(head in key for head in heads) for key in own if key not in equal)
    torch.save({"state_dict": {f"net.net.{key}": value for key, value in own.items()}}, "run.ckpt")
    again = kind(5, 3, source, weights="run.ckpt").net.state_dict()
    assert all(torch.equal(again[key], own[key]) for key in equal)


def test_a_net_is_built_again_from_its_saved_arguments(monkeypatch):
    source = folder("rf_detr")
    Path(source, "preprocessor_config.json").write_text('{"size": 30}')
    assert TransformersDetector(3, 3, source, pretrained=True).net.initial_weights.mean is None
    Path(source, "preprocessor_config.json").write_text('{"do_normalize": false}')
    first = TransformersDetector(3, 3, source, pretrained=True)
    assert (first.net.initial_weights.mean, first.net.initial_weights.std) == ([0.0], [1.0])
    shutil.rmtree("net")
    saved = json.loads(json.dumps(first.saved_arguments))
    again = TransformersDetector(3, 3, source, **saved)
    again.load_state_dict(first.state_dict())
    assert again.net.config.num_labels == 3


def test_constants_of_d_fine_are_not_trained():
    net = TransformersDetector(3, 3, config=DETECTORS["d_fine"])
    assert {name.rpartition(".")[2] for name, p in net.named_parameters() if not p.requires_grad} == {"up", "reg_scale"}


def test_code_of_the_hub_is_not_named():
    evil = {"attn_implementation": "someone/kernel", "auto_map": {"AutoConfig": "someone/repository--code.Config"}}
    backbone = {**DETECTORS["rf_detr"]["backbone_config"], **evil}
    net = TransformersDetector(3, 3, config={**DETECTORS["rf_detr"], **evil, "backbone_config": backbone})
    assert {module.config._attn_implementation for module in net.net.modules() if hasattr(module, "config")} == {
        "eager"
    }


def test_mistakes_are_one_line(monkeypatch):
    with pytest.raises(UserError, match=r"model type bert, which is not supported \(supported: d_fine"):
        TransformersDetector(3, 3, config={"model_type": "bert"})
    with pytest.raises(UserError, match=r"model type d_fine, which is not supported \(supported: segformer"):
        TransformersSegmenter(3, 3, config=DETECTORS["d_fine"])
    with pytest.raises(UserError, match=r"takes 3 channels, not 1: set data.channels"):
        TransformersDetector(3, 1, config=DEIMV2_DINOV3)
    net = TransformersDetector(3, 3, config={**DETECTORS["rf_detr"], "num_queries": 50})
    with pytest.raises(UserError, match=r"61x77 have 36 locations, .* the 50 queries: raise data.image_size"):
        net(torch.randn(1, 3, 61, 77), [TWO])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotDownloaded, match=r"nobody/nothing is neither a folder with a config.json nor"):
        TransformersDetector(3, 3, "nobody/nothing")
    import transformers

    monkeypatch.setattr(transformers, "__version__", "5.17.0")
    with pytest.raises(UserError, match=r"transformers 5.17.0 is too old: pip install"):
        TransformersDetector(3, 3, config=DETECTORS["d_fine"])
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install -e '.\[transformers\]'"):
        TransformersDetector(3, 3, config=DETECTORS["d_fine"])
