import errno
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kit.checks.images import CheckedImage
from kit.checks.pixels import read_statistics
from kit.data import Preprocessing
from kit.data.decode import (
    PADDING,
    decode,
    find_channels,
    fitted_size,
    read_upright_size,
    resize,
    turn_upright,
    upright_size,
    verify,
)
from kit.data.levels import find_levels
from kit.formats.masks.masks import stored_size
from kit.ground.errors import BrokenFiles, UnreachableFiles

PIXELS = np.arange(6, dtype=np.uint8).reshape(2, 3) * 50  # H != W, every pixel another value


def saved(image: Image.Image, name: str = "image.png", **options) -> Path:
    image.save(name, **options)
    return Path(name)


def test_grey_image_is_decoded_to_one_and_three_channels():
    path = saved(Image.fromarray(PIXELS))
    assert decode(path, 1, None).tolist() == [PIXELS.tolist()]
    assert decode(path, 3, None).tolist() == [PIXELS.tolist()] * 3


def test_sixteen_bits_are_scaled_not_clipped():
    path = saved(Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16)))
    assert decode(path, 1, None).tolist() == [[[0, 128, 255]]]
    assert decode(path, 3, None)[2].tolist() == [[0, 128, 255]]


def test_palette_image_is_decoded_to_its_colours():
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode="P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    assert decode(saved(image), 3, None).tolist() == [[[255, 0]], [[0, 0]], [[0, 255]]]
    assert decode(saved(image, transparency=0), 3, None).tolist() == [[[255, 0]], [[255, 0]], [[255, 255]]]


@pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (255, 10), (128, 132)])
def test_transparent_pixels_become_white(alpha, expected):
    rgba = Image.new("RGBA", (2, 1), (10, 10, 10, alpha))
    assert (decode(saved(rgba), 3, None).int() - expected).abs().max() <= 1
    assert (decode(saved(Image.new("LA", (2, 1), (10, alpha))), 1, None).int() - expected).abs().max() <= 1
    assert decode(saved(rgba), 4, None)[3].tolist() == [[alpha, alpha]]


def test_cmyk_image_is_decoded_to_rgb():
    assert decode(saved(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "image.jpg"), 3, None).max() < 5


TURNED = {  # by EXIF orientation: what is shown of [[0 1 2] [3 4 5]]
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
def test_exif_orientation_is_applied(orientation):
    image = Image.fromarray(PIXELS)
    image.getexif()[0x0112] = orientation
    path = saved(image, exif=image.getexif())
    assert (decode(path, 1, None)[0] // 50).tolist() == TURNED[orientation]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 9])
def test_size_in_the_header_is_that_of_the_decoded_image(name, orientation):
    image = Image.fromarray(np.zeros((16, 24, 3), np.uint8))
    image.getexif()[0x0112] = orientation
    path = saved(image, name, exif=image.getexif())
    with Image.open(path) as header:
        size = upright_size(header)
    assert size == tuple(decode(path, 3, None).shape[1:]) == ((24, 16) if orientation == 6 else (16, 24))
    assert read_upright_size(path) == (size, orientation if orientation < 9 else 1)
    assert stored_size(*read_upright_size(path)) == (16, 24)
    with Image.open(path) as opened:
        assert turn_upright(opened).size == size[::-1]


@pytest.mark.parametrize("orientation", [1, 6])
def test_reduced_decoding_of_large_jpegs_is_accurate(orientation):
    y, x = np.mgrid[0:480, 0:640]
    image = Image.fromarray(np.stack([y * 255 // 480, x * 255 // 640, 0 * x + 90], -1).astype(np.uint8))
    image.getexif()[0x0112] = orientation
    small = decode(saved(image, "large.jpg", quality=95, exif=image.getexif()), 3, (40, 60))
    whole = decode(saved(image, "large.png", exif=image.getexif()), 3, (40, 60))
    assert small.shape == (3, 40, 60)
    assert (small.int() - whole.int()).abs().max() <= 6


def test_broken_files_are_described():
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


def test_channels_are_found_from_headers():
    grey, colour = saved(Image.new("L", (2, 2)), "a.png"), saved(Image.new("RGB", (2, 2)), "b.png")
    assert find_channels([grey]) == 1
    assert find_channels([grey, colour]) == 3
    assert decode(colour, 3, (5, 7)).dtype == torch.uint8


@pytest.mark.parametrize(("name", "orientation"), [("a.png", 1), ("a.jpg", 1), ("a.jpg", 6)])
def test_image_with_its_aspect_is_padded_at_right_or_bottom(name, orientation):
    image = Image.new("RGB", (300, 150) if orientation == 1 else (150, 300), (10, 20, 30))
    image.getexif()[0x0112] = orientation
    pixels = decode(saved(image, name, exif=image.getexif()), 3, (40, 50), keep_aspect=True)
    assert pixels.shape == (3, 40, 50)
    assert (pixels[:, :25].float().mean((1, 2)) - torch.tensor([10.0, 20, 30])).abs().max() < 2
    assert (pixels[:, 25:] == PADDING).all()


SIZES = [((300, 150), (40, 50), (40, 20)), ((150, 300), (40, 50), (25, 50)), ((4, 999), (8, 8), (1, 8))]


@pytest.mark.parametrize(("inner", "outer", "expected"), SIZES)
def test_fitted_size_keeps_the_aspect(inner, outer, expected):
    assert fitted_size(inner, outer) == expected


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_resizing_to_one_pixel(channels):
    assert resize(torch.full((channels, 3, 2), 7, dtype=torch.uint8), (1, 1)).tolist() == [[[7]]] * channels


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("lost", [20, 20_000])
def test_jpeg_without_its_last_bytes_is_broken(options, lost):
    whole = saved(Image.fromarray(noise(200, 300)), "whole.jpg", **options)
    Path("cut.jpg").write_bytes(whole.read_bytes()[:-lost])
    verify(whole)
    for read in (lambda path: decode(path, 3, None), lambda path: decode(path, 3, (20, 30)), verify):
        with pytest.raises(BrokenFiles, match="truncated"):
            read(Path("cut.jpg"))


def test_truncated_png_is_broken():
    Path("cut.png").write_bytes(saved(Image.fromarray(noise(50, 60))).read_bytes()[:-40])
    with pytest.raises(BrokenFiles, match="cut"):
        verify(Path("cut.png"))


def test_unreachable_files_differ_from_broken_ones(monkeypatch):
    path = saved(Image.fromarray(PIXELS))
    with pytest.raises(UnreachableFiles, match="nowhere"):
        decode(Path("nowhere/a.png"), 1, None)
    with pytest.raises(BrokenFiles) as gone:
        decode(Path("gone.png"), 1, None)
    assert not isinstance(gone.value, UnreachableFiles)

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(UnreachableFiles, match=r"image\.png: Permission denied"):
        decode(path, 1, None)


def test_broken_exif_data_are_ignored():
    path = saved(Image.fromarray(PIXELS), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12")
    assert decode(path, 1, None).tolist() == [PIXELS.tolist()]


VALUES = [  # type, values of two images, what becomes black and white
    (np.uint16, (0, 4095), (100, 3000), (0, 4095)),
    (np.uint16, (0, 65535), (5, 900), (0, 65535)),
    (np.uint16, (7, 200), (0, 255), (0, 255)),
    (np.int16, (-1000, 0), (0, 3000), (-1000, 3000)),
    (np.int32, (0, 70000), (0, 1), (0, 2**32 - 1)),
    (np.float32, (0, 1), (0.25, 0.5), (0, 1)),
    (np.float32, (0, 200), (0.5, 255), (0, 255)),
    (np.float32, (0, 1.02), (0.25, 0.5), (0, 1.02)),
    (np.float32, (0, 180.5), (0.5, 100), (0, 255)),
    (np.float32, (-1.5, 0), (0, 2.5), (-1.5, 2.5)),
]


@pytest.mark.parametrize(("kind", "one", "other", "levels"), VALUES)
def test_levels_of_deep_images_are_found_in_the_data_set(kind, one, other, levels):
    paths = [saved(Image.fromarray(np.array([v], kind)), f"{i}.tiff") for i, v in enumerate((one, other))]
    assert find_levels(paths) == pytest.approx(levels)
    for path, values in zip(paths, (one, other), strict=True):
        expected = [round((value - levels[0]) / (levels[1] - levels[0]) * 255) for value in values]
        assert decode(path, 1, None, levels=find_levels(paths)).tolist() == [[expected]]


def test_twelve_bit_image_uses_all_grey_levels():
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    assert len(decode(saved(Image.fromarray(values)), 1, None).unique()) == 256


def test_images_of_eight_bits_have_no_levels():
    assert find_levels([saved(Image.fromarray(PIXELS)), Path("gone.png")]) is None


def test_image_with_infinite_pixels_is_broken():
    path = saved(Image.fromarray(np.array([[0.0, np.nan, np.inf]], np.float32)), "nan.tiff")
    for read in (lambda path: decode(path, 1, None, levels=(0, 1)), verify):
        with pytest.raises(BrokenFiles, match=r"nan\.tiff: 2 of its pixels are not finite"):
            read(path)


def test_dark_sixteen_bit_colours_are_refused():
    def png(most: int, colours: int = 3, has_alpha: bool = False) -> Path:
        """Of 16 bits a colour, which PIL reads, and does not write."""
        pixels = np.linspace(0, most, 4 * 6 * colours).reshape(4, 6, colours)
        rows = np.concatenate([pixels, np.full((4, 6, int(has_alpha)), 65535)], -1).reshape(4, -1).astype(">u2")
        parts = {b"IHDR": struct.pack(">IIBBBBB", 6, 4, 16, {1: 0, 3: 2}[colours] + 4 * has_alpha, 0, 0, 0)}
        parts |= {b"IDAT": zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)), b"IEND": b""}
        chunks = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts.items()]
        Path("deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
        return Path("deep.png")

    assert decode(png(65535), 3, None).max() == 255
    verify(png(65535))
    for colours in (1, 3):
        verify(png(65535, colours, has_alpha=True))
        with pytest.raises(BrokenFiles, match="only 16 shades"):
            verify(png(4095, colours, has_alpha=True))
    dark = png(4095)
    kind = Preprocessing(3, (2, 3), False, [0.5] * 3, [0.5] * 3)
    for read in (lambda path: decode(path, 3, None), verify, kind.read, lambda path: kind.read(Image.open(path))):
        with pytest.raises(BrokenFiles, match=r"deep\.png: only 16 shades"):
            read(dark)
    (fault,) = read_statistics([CheckedImage("deep.png", "train", None, None)]).faults
    assert fault.kind == "unreadable" and "16 shades" in fault.message


@pytest.mark.parametrize("read", [lambda path: decode(path, 3, None), verify])
def test_corrupt_file_is_broken(read):
    content = bytearray(saved(Image.fromarray(noise(50, 60))).read_bytes())
    content[len(content) // 2] ^= 255
    Path("wrong.png").write_bytes(content)
    with pytest.raises(BrokenFiles, match="wrong"):
        read(Path("wrong.png"))
