from pathlib import Path

import pytest
from PIL import Image

from kit.data.image_size import choose_label_image_size, read_image_sizes

SIZES = [  # heights and widths of images, the largest area, and the chosen size
    ([(100, 100)], 96 * 96, (96, 96)),
    ([(32, 32)], 96 * 96, (32, 32)),
    ([(28, 28)], 96 * 96, (28, 28)),  # smaller than 32
    ([(100, 20)], 96 * 96, (96, 20)),
    ([(90, 70)], 96 * 96, (80, 64)),  # never larger than the images
    ([(480, 640)], 96 * 96, (80, 104)),
    ([(640, 480)], 96 * 96, (104, 80)),
    ([(480, 640)], 64 * 64, (56, 72)),
    ([(50, 4000)], 96 * 96, (32, 288)),
    ([(4000, 3000), (40, 64), (40, 64)], 96 * 96, (40, 64)),  # medians
    ([], 96 * 96, (32, 32)),
]


@pytest.mark.parametrize(("sizes", "max_area", "size"), SIZES)
def test_size_is_chosen_from_medians(sizes, max_area, size):
    assert choose_label_image_size(sizes, max_area) == size


def test_sizes_are_those_of_upright_images():
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save("turned.jpg", exif=exif)
    Image.new("RGB", (30, 20)).save("straight.png")
    Path("broken.jpg").write_bytes(b"x")
    assert read_image_sizes([Path(name) for name in ("turned.jpg", "broken.jpg", "straight.png")]) == [
        (30, 20),
        (20, 30),
    ]


def test_sample_of_many_files_is_evenly_spaced(monkeypatch):
    monkeypatch.setattr("kit.data.image_size.MAX_IMAGES", 3)
    for number in range(7):
        Image.new("L", (number + 1, 2)).save(f"{number}.png")
    assert read_image_sizes([Path(f"{number}.png") for number in range(7)]) == [(2, 1), (2, 4), (2, 7)]
