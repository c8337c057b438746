import errno
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kit.data.decode import PADDING, decode, find_channels, fitted_size, is_truncated, resize
from kit.data.levels import find_levels
from kit.ground.errors import BrokenFiles, UnreachableFiles

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
    assert find_channels([grey]) == 1
    assert find_channels([grey, colour]) == 3
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


@pytest.mark.parametrize(("inner", "outer", "expected"), SIZES)
def test_fit(inner, outer, expected):
    assert fitted_size(inner, outer) == expected


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_down_to_a_pixel(channels):
    assert resize(torch.full((channels, 3, 2), 7, dtype=torch.uint8), (1, 1)).tolist() == [[[7]]] * channels


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("size", [None, (20, 30)])
def test_a_jpeg_without_its_last_bytes_is_read_as_browsers_read_it(options, size):
    whole = saved(Image.fromarray(noise(200, 300)), "whole.jpg", **options)
    Path("cut.jpg").write_bytes(whole.read_bytes()[:-20])
    assert is_truncated(Path("cut.jpg")) and not is_truncated(whole)
    difference = (decode(Path("cut.jpg"), 3, size).int() - decode(whole, 3, size).int()).abs().flatten(2)
    assert difference[:, : -3 if size else -16].max() == 0 and decode(Path("cut.jpg"), 3, size).min() < 100


@pytest.mark.parametrize(("share", "missing"), [(0.97, False), (0.5, True), (0.0, True)])
def test_a_jpeg_of_which_much_is_missing_is_broken(share, missing):
    content = saved(Image.fromarray(noise(200, 300)), "whole.jpg").read_bytes()
    Path("cut.jpg").write_bytes(content[: 1000 + int(share * (len(content) - 1000))])
    for read in (lambda path: decode(path, 1, None), is_truncated):
        if missing:
            with pytest.raises(BrokenFiles, match="truncated"):
                read(Path("cut.jpg"))
        else:
            read(Path("cut.jpg"))


def test_a_cut_file_of_another_format_is_broken():
    Path("cut.png").write_bytes(saved(Image.fromarray(noise(50, 60))).read_bytes()[:-40])
    with pytest.raises(BrokenFiles, match="cut"):
        is_truncated(Path("cut.png"))


def test_what_the_system_does_not_read_is_no_broken_image(monkeypatch):
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


def test_broken_exif_data_turn_nothing():
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
    (np.float32, (-1.5, 0), (0, 2.5), (-1.5, 2.5)),
]


@pytest.mark.parametrize(("kind", "one", "other", "levels"), VALUES)
def test_the_levels_of_deep_images_are_those_of_the_data_set(kind, one, other, levels):
    paths = [saved(Image.fromarray(np.array([v], kind)), f"{i}.tiff") for i, v in enumerate((one, other))]
    assert find_levels(paths) == pytest.approx(levels)
    for path, values in zip(paths, (one, other), strict=True):
        expected = [round((value - levels[0]) / (levels[1] - levels[0]) * 255) for value in values]
        assert decode(path, 1, None, levels=find_levels(paths)).tolist() == [[expected]]


def test_twelve_bits_keep_their_grey_levels():
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    assert len(decode(saved(Image.fromarray(values)), 1, None).unique()) == 256


def test_images_of_eight_bits_have_no_levels():
    assert find_levels([saved(Image.fromarray(PIXELS)), Path("gone.png")]) is None


def test_pixels_that_are_no_numbers_make_an_image_broken():
    path = saved(Image.fromarray(np.array([[0.0, np.nan, np.inf]], np.float32)), "nan.tiff")
    for read in (lambda path: decode(path, 1, None, levels=(0, 1)), is_truncated):
        with pytest.raises(BrokenFiles, match=r"nan\.tiff: 2 of its pixels are not finite"):
            read(path)


def test_dark_colours_of_sixteen_bits_are_not_reduced_to_a_few():
    def png(most: int) -> Path:
        """Of 16 bits a colour, which PIL reads, and does not write."""
        rows = np.linspace(0, most, 4 * 6 * 3).reshape(4, -1).astype(">u2")
        parts = {b"IHDR": struct.pack(">IIBBBBB", 6, 4, 16, 2, 0, 0, 0)}
        parts |= {b"IDAT": zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)), b"IEND": b""}
        chunks = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts.items()]
        Path("deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
        return Path("deep.png")

    assert decode(png(65535), 3, None).max() == 255
    with pytest.raises(BrokenFiles, match="16 levels"):
        decode(png(4095), 3, None)


@pytest.mark.parametrize("read", [lambda path: decode(path, 3, None), is_truncated])
def test_a_file_with_a_wrong_byte_is_broken(read):
    content = bytearray(saved(Image.fromarray(noise(50, 60))).read_bytes())
    content[len(content) // 2] ^= 255
    Path("wrong.png").write_bytes(content)
    with pytest.raises(BrokenFiles, match="wrong"):
        read(Path("wrong.png"))
