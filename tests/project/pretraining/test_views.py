"""Views of large images, of images with opacity, and in lower precision."""

import pytest
import torch

from kit.ground.errors import UserError
from project.pretraining import RandomViews

SAME = {"scale": (1.0, 1.0), "angle_deg": 0.0, "mirror": False, "brightness": 0.0, "contrast": 0.0}
SAME |= {"saturation": 0.0, "tint": 0.0, "grey": 0.0}


def test_a_fine_pattern_becomes_even():
    stripes = torch.tensor([-1.0, 1.0]).repeat(48).expand(5, 3, 80, 96).contiguous()
    assert RandomViews(8, **SAME)(stripes).abs().max() < 0.2
    assert RandomViews(8, **SAME | {"scale": (0.25, 0.25)})(stripes).abs().max() < 0.2


def test_opacity_is_cut_but_keeps_its_values():
    images = torch.cat([torch.randn(6, 3, 10, 12), torch.full((6, 1, 10, 12), 0.75)], 1)
    views = RandomViews(8)(images)
    assert torch.allclose(views[:, 3:], torch.full((6, 1, 8, 8), 0.75))
    grey = RandomViews(8, grey=1.0)(images)[:, :3]
    assert torch.allclose(grey, grey.mean(1, keepdim=True).expand_as(grey), atol=1e-6)


def test_views_are_computed_in_single_precision():
    images, views = torch.randn(4, 3, 40, 30).bfloat16(), RandomViews(8)
    expected = views(images.float(), torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(views(images.float(), torch.Generator().manual_seed(1)), expected)
    assert torch.equal(views(images, torch.Generator().manual_seed(1)), expected.bfloat16())
    assert expected.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.5, 0.2), (0.5, 1.5), (0.5,), (float("nan"), 1.0)])
def test_a_wrong_scale_is_refused(scale):
    with pytest.raises(UserError, match=r"model\.views\.scale is \[.*0 < LOW <= HIGH <= 1"):
        RandomViews(8, scale=scale)
