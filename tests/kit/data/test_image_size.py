"""The size of images is chosen from the sizes of images and objects."""

from pathlib import Path

import pytest
from PIL import Image

from kit.data.image_size import BOX_SIZE_RULE, LABEL_SIZE_RULE, MASK_SIZE_RULE, choose_image_size, read_image_sizes

PHOTO, TALL = (480, 640), (640, 480)
SIZES = [  # image sizes, shares of objects, rule, height and width
    ([PHOTO], [], BOX_SIZE_RULE, (480, 640)),
    ([(960, 1280)], [], BOX_SIZE_RULE, (480, 640)),  # 307,200 pixels
    ([PHOTO], [], MASK_SIZE_RULE, (224, 288)),  # 65,536 pixels
    ([PHOTO], [0.001], BOX_SIZE_RULE, (480, 640)),  # small objects: as large as allowed
    ([PHOTO], [0.1], BOX_SIZE_RULE, (320, 448)),  # 144,000 pixels: an object has 120 x 120
    ([PHOTO], [0.9], BOX_SIZE_RULE, (160, 224)),  # an eighth of 307,200 pixels
    ([PHOTO], [0.9] * 6 + [0.001] * 4, BOX_SIZE_RULE, (480, 640)),  # four of ten objects are small
    ([PHOTO], [0.9] * 99 + [0.001], BOX_SIZE_RULE, (160, 224)),  # one of a hundred
    ([PHOTO, PHOTO, (100, 900)], [], BOX_SIZE_RULE, (480, 640)),  # an unusual image
    ([TALL] * 4 + [PHOTO], [], BOX_SIZE_RULE, (640, 480)),
    ([TALL] * 50 + [PHOTO] * 51, [], BOX_SIZE_RULE, (544, 544)),  # tall and wide images
    ([TALL] * 51 + [PHOTO] * 50, [], BOX_SIZE_RULE, (544, 544)),
    ([TALL, *[(480, 480)] * 9, PHOTO], [], BOX_SIZE_RULE, (480, 480)),
    ([(150, 200)], [], BOX_SIZE_RULE, (160, 192)),  # not larger than the images
    ([(22, 30)], [0.5], BOX_SIZE_RULE, (64, 64)),
    ([(40, 4000)], [], BOX_SIZE_RULE, (192, 800)),  # a stripe
    ([(10000, 100)], [], MASK_SIZE_RULE, (512, 128)),
    ([(100, 10000)], [], LABEL_SIZE_RULE, (32, 128)),
    ([], [], BOX_SIZE_RULE, (544, 544)),
    ([], [], MASK_SIZE_RULE, (256, 256)),
    ([PHOTO], [0.0, 0.0], BOX_SIZE_RULE, (480, 640)),
    ([PHOTO], [], LABEL_SIZE_RULE, (56, 72)),
    ([(100, 100)], [], LABEL_SIZE_RULE, (64, 64)),
    ([(28, 28)], [], LABEL_SIZE_RULE, (32, 32)),
    ([], [], LABEL_SIZE_RULE, (64, 64)),
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
