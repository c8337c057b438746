import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import assert_refused

from kit.ground.errors import UserError
from kit.masks.predictions import predict_in_windows
from kit.zoo import SmpNet, TorchvisionSegmenter
from project.segmentation import CnnUnet

SIZES = [(21, 34), (64, 96), (33, 47)]


@pytest.mark.parametrize("size", [*SIZES, (1, 1), (3, 200)])
@pytest.mark.parametrize("stem_stride", [1, 2, 4])
def test_logits_of_the_unet_have_the_size_of_the_image(size, stem_stride):
    net = CnnUnet(7, 2, widths=[4, 6, 8], depth=1, stem_stride=stem_stride).eval()
    assert net(torch.rand(3, 2, *size)).shape == (3, 7, *size)
    assert net.head.weight.shape[0] == 7


def test_number_of_parameters_of_the_unet():
    trunk = (9 * 3 * 4 + 8) + (9 * 4 * 6 + 12)
    up = (6 * 4 + 4) + (9 * 8 * 4 + 8)
    assert sum(p.numel() for p in CnnUnet(5, 3, widths=[4, 6], depth=1).parameters()) == trunk + up + 4 * 5 + 5


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_torchvision(name, channels):
    net = TorchvisionSegmenter(5, channels, name).eval()
    assert net(torch.rand(2, channels, 61, 90)).shape == (2, 5, 61, 90)
    assert all(m.out_channels == 5 for m in net.head.modules() if isinstance(m, torch.nn.Conv2d))
    assert len(list(net.head.parameters())) == (4 if name.startswith("lraspp") else 2)


@pytest.mark.parametrize(("arch", "size"), [("unet", (33, 47)), ("fpn", (64, 96)), ("fpn", (20, 70))])
def test_smp(arch, size):
    net = SmpNet(5, 2, arch, "resnet18").eval()
    assert net(torch.rand(2, 2, *size)).shape == (2, 5, *size)
    assert sum(p.numel() for p in net.head.parameters()) > 0


NETS = [
    (TorchvisionSegmenter, {"name": "lraspp_mobilenet_v3_large"}),
    (TorchvisionSegmenter, {"name": "deeplabv3_mobilenet_v3_large"}),
    (SmpNet, {"arch": "fpn", "encoder": "resnet18"}),
]


@pytest.mark.parametrize(("net", "options"), NETS, ids=["lraspp", "deeplabv3", "smp"])
def test_weights_from_a_file_except_the_head(net, options):
    torch.manual_seed(0)
    source = net(21, 3, **options)
    torch.save(source.net.state_dict(), "weights.pt")
    loaded = net(5, 3, weights="weights.pt", **options)
    heads = {id(p) for p in loaded.head.parameters()}
    for name, own in loaded.net.named_parameters():
        assert id(own) in heads or torch.equal(own, source.net.get_parameter(name)), name
    with pytest.raises(UserError, match="no file of weights"):
        net(5, 3, weights="nowhere.pt", **options)


WRONG = [
    (TorchvisionSegmenter, {"name": "deeplabv3_resnet5"}, "deeplabv3_resnet50"),
    (SmpNet, {"arch": "unett"}, "unet"),
    (SmpNet, {"encoder": "resnet19"}, "resnet"),
]


@pytest.mark.parametrize(("net", "options", "meant"), WRONG)
def test_wrong_names_are_refused(net, options, meant):
    with pytest.raises(UserError, match=f"has no .*; did you mean '{meant}"):
        net(5, 3, **options)


side = st.integers(1, 23)


@settings(max_examples=60)
@given(side, side, side, side)
def test_windows_do_not_change_a_pointwise_net(height, width, window_height, window_width):
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(height))
    sizes = []

    def net(part):
        sizes.append(tuple(part.shape[2:]))
        return torch.cat([part, part.sum(1, keepdim=True)], 1)

    whole = net(images)
    sizes.clear()
    assert torch.allclose(predict_in_windows(net, images, (window_height, window_width)), whole, atol=1e-6)
    assert set(sizes) == {(min(height, window_height), min(width, window_width))}


def test_windows_overlap_by_half():
    starts = []
    images = torch.arange(20.0).expand(1, 1, 4, 20)
    predict_in_windows(lambda part: starts.append(int(part[0, 0, 0, 0])) or part, images, (4, 8))
    assert starts == [0, 4, 8, 12]


def test_arguments_out_of_range_are_refused():
    assert_refused(CnnUnet, widths="[8, -8]", depth=0, stem_stride=0, dropout=1.5)
    with pytest.raises(UserError, match=r"model\.net\.widths is empty"):
        CnnUnet(3, widths=[])
