import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms import v2

from kit.masks import RandomScaleCrop


def blocks(height: int, width: int, side: int = 8) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Squares of random classes 0 to 4, and an image whose pixels are 50 times that, in two channels."""
    rows, columns = -(-height // side), -(-width // side)
    classes = torch.randint(0, 5, (rows, columns), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mask = classes.repeat_interleave(side, 0).repeat_interleave(side, 1)[:height, :width]
    return tv_tensors.Image((50 * mask).expand(2, height, width).contiguous()), tv_tensors.Mask(mask)


def agreement(image: torch.Tensor, mask: torch.Tensor) -> float:
    """The share of the pixels whose brightness is their class's, the ignored left out."""
    counted = mask != 255
    return ((image[0].int() - 50 * mask.int()).abs() <= 12)[counted].float().mean().item()


AUGMENT = {
    "flip": v2.RandomHorizontalFlip(1.0),
    "larger": RandomScaleCrop((48, 64), (1.5, 1.5)),
    "smaller": RandomScaleCrop((48, 64), (0.6, 0.6)),
    "unchanged": RandomScaleCrop((48, 64), (1.0, 1.0)),
    "any": RandomScaleCrop((48, 64), (0.8, 2.0)),
}


@pytest.mark.parametrize("name", AUGMENT)
def test_mask_follows_the_image(name):
    for seed in range(8):
        torch.manual_seed(seed)
        image, mask = AUGMENT[name](*blocks(56, 72))
        assert isinstance(image, tv_tensors.Image) and isinstance(mask, tv_tensors.Mask)
        assert image.shape == (2, *mask.shape) and image.dtype == mask.dtype == torch.uint8
        assert agreement(image, mask) > (0.99 if name in ("flip", "unchanged") else 0.75)
        assert set(mask.unique().tolist()) <= {0, 1, 2, 3, 4, 255}


def test_mask_is_not_shifted_by_half_a_pixel():
    image = tv_tensors.Image(torch.arange(40, dtype=torch.uint8).mul(6).expand(1, 20, 40).contiguous())
    mask = tv_tensors.Mask(torch.arange(40, dtype=torch.uint8).expand(20, 40).contiguous())
    torch.manual_seed(0)
    large, labels = RandomScaleCrop((40, 60), (2.0, 2.0))(image, mask)
    inner = (large[0].float() / 6 - labels.float())[:, 2:-2]
    assert inner.abs().max() <= 0.34 and abs(inner.mean()) < 0.1  # half a pixel would be 0.25


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_result_has_the_given_size(height, width, to_height, to_width, seed):
    torch.manual_seed(seed)
    mask = tv_tensors.Mask(torch.full((height, width), 7, dtype=torch.uint8))
    image = tv_tensors.Image(torch.full((3, height, width), 9, dtype=torch.uint8))
    image, mask = RandomScaleCrop((to_height, to_width), (0.5, 2.0))(image, mask)
    assert image.shape == (3, to_height, to_width) and mask.shape == (to_height, to_width)
    inside = mask == 7
    assert inside.any() and (mask[~inside] == 255).all()
    assert (image[:, inside] == 9).all() and (image[:, ~inside] == 114).all()
