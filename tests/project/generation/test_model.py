import pytest
import torch
from refused import assert_refused

from kit.ground.errors import UserError
from project.generation import UNet
from project.generation.model import _embed_times


def stirred(**options) -> UNet:
    """No weight is zero any more."""
    torch.manual_seed(0)
    net = UNet(5, 3, **options)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return net


@pytest.mark.parametrize("size", [(8, 8), (7, 12), (13, 9)])
@pytest.mark.parametrize("options", [{"widths": [8]}, {"widths": [8, 16, 16], "depth": 2}, {"widths": [8], "patch": 4}])
def test_shapes(size, options):
    net = stirred(**options)
    out = net(torch.randn(2, 3, *size), torch.rand(2), torch.tensor([0, 5]))
    assert out.shape == (2, 3, *size)
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("widths", [[], [12]])
def test_invalid_widths_are_refused(widths):
    with pytest.raises(UserError, match=r"model\.net\.widths is .*; give multiples of 8"):
        UNet(3, widths=widths)
    assert_refused(UNet, widths="[0, 8]", depth=0, patch=0)


def test_velocity_is_zero_at_the_start():
    out = UNet(5, 3, widths=[8, 16])(torch.randn(2, 3, 8, 6), torch.rand(2), torch.tensor([0, 5]))
    assert torch.equal(out, torch.zeros_like(out))


def test_output_depends_on_time_and_class_but_not_on_the_batch():
    net, images = stirred(widths=[8, 16]), torch.randn(2, 3, 8, 6)
    out = net(images, torch.tensor([0.2, 0.7]), torch.tensor([1, 4]))
    assert torch.allclose(net(images[1:], torch.tensor([0.7]), torch.tensor([4])), out[1:], atol=1e-5)
    assert not torch.allclose(net(images[1:], torch.tensor([0.3]), torch.tensor([4])), out[1:], atol=1e-2)
    assert not torch.allclose(net(images[1:], torch.tensor([0.7]), torch.tensor([5])), out[1:], atol=1e-2)


def test_every_pixel_depends_on_the_whole_image():
    net, images = stirred(widths=[8, 16]), torch.randn(1, 3, 32, 32)
    one, other = images.clone(), images.clone()
    other[0, :, 0, 0] += 5
    time, kind = torch.tensor([0.5]), torch.tensor([0])
    changed = (net(one, time, kind) - net(other, time, kind)).abs()[0, :, -1, -1]
    assert (changed > 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_times_are_embedded_with_the_accuracy_of_their_precision(dtype):
    times = torch.tensor([0.125, 0.75, 1.0], dtype=dtype)
    angles = times.double()[:, None] * torch.logspace(0, 3, 8, dtype=torch.float64)
    exact = torch.cat([angles.sin(), angles.cos()], 1)
    embedded = _embed_times(times, 16)
    assert embedded.dtype == dtype
    torch.testing.assert_close(embedded.double(), exact, rtol=0, atol=max(torch.finfo(dtype).eps, 3e-4))
