"""The size of images is chosen from the sizes of images and objects."""

from pathlib import Path

import pytest
from PIL import Image

from kit.data.image_size import BOXES, LABELS, MASKS, choose_image_size, read_image_sizes

PHOTO = (480, 640)
SIZES = [  # image sizes, shares of objects, rule, height and width
    ([PHOTO], [], BOXES, (288, 384)),  # 102,400 pixels
    ([PHOTO], [], MASKS, (224, 288)),  # 65,536 pixels
    ([PHOTO], [0.001], BOXES, (288, 384)),  # small objects: as large as allowed
    ([PHOTO], [0.02], BOXES, (192, 256)),  # 51,200 pixels: an object has 32 x 32
    ([PHOTO], [0.9], BOXES, (128, 192)),  # a quarter of 102,400 pixels
    ([PHOTO], [0.9] * 8 + [0.001] * 2, BOXES, (288, 384)),  # a fifth of the objects is small
    ([PHOTO], [0.9] * 99 + [0.001], BOXES, (128, 192)),  # one of a hundred
    ([PHOTO, PHOTO, (100, 900)], [], BOXES, (288, 384)),  # an unusual image
    ([(640, 480), (640, 480), PHOTO], [], BOXES, (384, 288)),
    ([(150, 200)], [], BOXES, (160, 192)),  # not larger than the images
    ([(22, 30)], [0.5], BOXES, (64, 64)),
    ([(40, 4000)], [], BOXES, (64, 3200)),
    ([], [], BOXES, (320, 320)),
    ([], [], MASKS, (256, 256)),
    ([PHOTO], [0.0, 0.0], BOXES, (288, 384)),
    ([PHOTO], [], LABELS, (56, 72)),
    ([(100, 100)], [], LABELS, (64, 64)),
    ([(28, 28)], [], LABELS, (32, 32)),
    ([], [], LABELS, (64, 64)),
]


@pytest.mark.parametrize(("sizes", "shares", "rule", "chosen"), SIZES)
def test_size_is_chosen(sizes, shares, rule, chosen):
    assert choose_image_size(sizes, shares, rule) == chosen


def test_sizes_are_read_upright_from_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr("kit.data.image_size.MAX_IMAGES", 2)
    for number in range(4):
        Image.new("RGB", (5, 3 + number)).save(tmp_path / f"{number}.png")
    turned = Image.new("RGB", (9, 4))
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "2.jpg", exif=turned.getexif())
    (tmp_path / "broken.png").write_bytes(b"")
    files = [tmp_path / name for name in ("0.png", "1.png", "2.jpg", "3.png")]
    assert read_image_sizes(files) == [(3, 5), (9, 4)]
    assert read_image_sizes([tmp_path / "broken.png", Path("nowhere.png")]) == read_image_sizes([]) == []
