from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from project import BrokenFiles
from project.pipeline.decode import PADDING, channels_of, decode, fit, resize

PIXELS = np.arange(6, dtype=np.uint8).reshape(2, 3) * 50  # H != W, every pixel another value


def saved(image: Image.Image, name: str = "image.png", **options) -> Path:
    image.save(name, **options)
    return Path(name)


def test_grey_to_one_and_three_channels():
    path = saved(Image.fromarray(PIXELS))
    assert decode(path, 1, None).tolist() == [PIXELS.tolist()]
    assert decode(path, 3, None).tolist() == [PIXELS.tolist()] * 3


def test_sixteen_bits_are_scaled_not_clipped():
    path = saved(Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16)))
    assert decode(path, 1, None).tolist() == [[[0, 128, 255]]]
    assert decode(path, 3, None)[2].tolist() == [[0, 128, 255]]


def test_palette():
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode="P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    assert decode(saved(image), 3, None).tolist() == [[[255, 0]], [[0, 0]], [[0, 255]]]
    assert decode(saved(image, transparency=0), 3, None).tolist() == [[[255, 0]], [[255, 0]], [[255, 255]]]


@pytest.mark.parametrize(("alpha", "seen"), [(0, 255), (255, 10), (128, 132)])
def test_transparency_shows_white(alpha, seen):
    rgba = Image.new("RGBA", (2, 1), (10, 10, 10, alpha))
    assert (decode(saved(rgba), 3, None).int() - seen).abs().max() <= 1
    assert (decode(saved(Image.new("LA", (2, 1), (10, alpha))), 1, None).int() - seen).abs().max() <= 1
    assert decode(saved(rgba), 4, None)[3].tolist() == [[alpha, alpha]]


def test_cmyk():
    assert decode(saved(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "image.jpg"), 3, None).max() < 5


TURNED = {  # by EXIF orientation: what is seen of [[0 1 2] [3 4 5]]
    1: [[0, 1, 2], [3, 4, 5]],
    2: [[2, 1, 0], [5, 4, 3]],
    3: [[5, 4, 3], [2, 1, 0]],
    4: [[3, 4, 5], [0, 1, 2]],
    5: [[0, 3], [1, 4], [2, 5]],
    6: [[3, 0], [4, 1], [5, 2]],
    7: [[5, 2], [4, 1], [3, 0]],
    8: [[2, 5], [1, 4], [0, 3]],
}


@pytest.mark.parametrize("orientation", TURNED)
def test_exif_orientation(orientation):
    image = Image.fromarray(PIXELS)
    image.getexif()[0x0112] = orientation
    path = saved(image, exif=image.getexif())
    assert (decode(path, 1, None)[0] // 50).tolist() == TURNED[orientation]


@pytest.mark.parametrize("orientation", [1, 6])
def test_large_jpegs_at_reduced_scale_look_the_same(orientation):
    y, x = np.mgrid[0:480, 0:640]
    image = Image.fromarray(np.stack([y * 255 // 480, x * 255 // 640, 0 * x + 90], -1).astype(np.uint8))
    image.getexif()[0x0112] = orientation
    small = decode(saved(image, "large.jpg", quality=95, exif=image.getexif()), 3, (40, 60))
    whole = decode(saved(image, "large.png", exif=image.getexif()), 3, (40, 60))
    assert small.shape == (3, 40, 60)
    assert (small.int() - whole.int()).abs().max() <= 6


def test_broken_files_say_why():
    whole = saved(Image.fromarray(np.random.default_rng(0).integers(0, 255, (99, 99), dtype=np.uint8)), "whole.jpg")
    Path("cut.jpg").write_bytes(whole.read_bytes()[:2000])
    Path("empty.png").write_bytes(b"")
    Path("text.png").write_text("no image")
    for name, why in {
        "cut": "truncated",
        "empty": "empty file",
        "text": "not an image",
        "gone": "no such file",
    }.items():
        path = next(Path().glob(f"{name}.*"), Path(f"{name}.png"))
        with pytest.raises(BrokenFiles, match=f"{name}.*{why}"):
            decode(path, 3, None)


def test_extension_does_not_matter():
    assert decode(saved(Image.fromarray(PIXELS), "png.jpg", format="PNG"), 1, None).tolist() == [PIXELS.tolist()]


def test_channels_are_read_off_the_headers():
    grey, colour = saved(Image.new("L", (2, 2)), "a.png"), saved(Image.new("RGB", (2, 2)), "b.png")
    assert channels_of([grey]) == 1
    assert channels_of([grey, colour]) == 3
    assert decode(colour, 3, (5, 7)).dtype == torch.uint8


@pytest.mark.parametrize(("name", "orientation"), [("a.png", 1), ("a.jpg", 1), ("a.jpg", 6)])
def test_an_image_that_keeps_its_aspect_is_padded_at_its_end(name, orientation):
    image = Image.new("RGB", (300, 150) if orientation == 1 else (150, 300), (10, 20, 30))
    image.getexif()[0x0112] = orientation
    pixels = decode(saved(image, name, exif=image.getexif()), 3, (40, 50), keep_aspect=True)
    assert pixels.shape == (3, 40, 50)
    assert (pixels[:, :25].float().mean((1, 2)) - torch.tensor([10.0, 20, 30])).abs().max() < 2
    assert (pixels[:, 25:] == PADDING).all()


SIZES = [((300, 150), (40, 50), (40, 20)), ((150, 300), (40, 50), (25, 50)), ((4, 999), (8, 8), (1, 8))]


@pytest.mark.parametrize(("inner", "outer", "wanted"), SIZES)
def test_fit(inner, outer, wanted):
    assert fit(inner, outer) == wanted


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_down_to_a_pixel(channels):
    assert resize(torch.full((channels, 3, 2), 7, dtype=torch.uint8), (1, 1)).tolist() == [[[7]]] * channels
