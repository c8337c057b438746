"""An image is made the same in use as in training, whatever it comes as."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kit.data import Files, Preprocessing
from kit.data.decode import PADDING
from kit.ground.errors import BrokenFiles, UserError


def preprocessing(channels: int = 3, size: tuple[int, int] | None = (20, 30), keep_aspect: bool = False):
    return Preprocessing(channels, size, keep_aspect, [0.5] * channels, [0.25] * channels)


def photo(size: tuple[int, int] = (33, 21), mode: str = "RGB") -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(0).integers(0, 256, (*size, channels)).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels, mode)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("keep_aspect", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_file_a_pil_image_and_a_tensor_give_what_training_sees(mode, keep_aspect, channels):
    image, kind = photo(mode=mode), preprocessing(channels, keep_aspect=keep_aspect)
    image.save("a.png")
    trained = Files([0], [Path("a.png")], channels, (20, 30), keep_aspect).read(0)
    tensor = torch.from_numpy(np.array(image)).view(33, 21, -1).permute(2, 0, 1)
    for given in ("a.png", Path("a.png"), image, tensor):
        pixels, size = kind.read(given)
        assert size == (33, 21) and torch.equal(pixels, trained), type(given)


def test_without_a_size_the_image_keeps_its_own():
    pixels, size = preprocessing(size=None).read(photo())
    assert pixels.shape == (3, 33, 21) and size == (33, 21)


def test_the_area_of_an_image_and_the_padding_beside_it():
    kind = preprocessing(keep_aspect=True)
    assert kind.area((40, 40)) == (20, 20) and kind.area((10, 60)) == (5, 30)
    pixels, _ = kind.read(Image.new("RGB", (40, 40)))
    assert pixels[:, :, :20].eq(0).all() and pixels[:, :, 20:].eq(PADDING).all()
    assert preprocessing().area((40, 40)) == (20, 30)


def test_an_image_lies_as_exif_says():
    image = photo()
    image.getexif()[0x0112] = 6
    image.save("turned.png", exif=image.getexif())
    for given in ("turned.png", Image.open("turned.png")):
        assert preprocessing(size=None).read(given)[1] == (21, 33)


def test_more_channels_than_files_have():
    kind = preprocessing(channels=5)
    assert kind.read(torch.zeros(5, 8, 9, dtype=torch.uint8))[0].shape == (5, 20, 30)
    for given in (torch.zeros(3, 8, 9, dtype=torch.uint8), photo()):
        with pytest.raises(UserError, match="must be given as tensors"):
            kind.read(given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (torch.zeros(3, 8, 9), r"float32 \[3, 8, 9\], but must be uint8 \[C, H, W\]"),
        (torch.zeros(8, 9, dtype=torch.uint8), r"uint8 \[8, 9\], but must be"),
        (torch.zeros(2, 8, 9, dtype=torch.uint8), r"uint8 \[2, 8, 9\], but must be"),
        (torch.zeros(3, 0, 9, dtype=torch.uint8), r"uint8 \[3, 0, 9\], but must be"),
        (np.zeros((8, 9, 3), np.uint8), "is a ndarray, but must be a file, a PIL image or a uint8 tensor"),
    ],
)
def test_what_is_no_image(given, words):
    with pytest.raises(UserError, match=words):
        preprocessing().read(given)


def test_a_pil_image_of_a_file_that_is_cut_off():
    photo((300, 300)).save("whole.png")
    Path("half.png").write_bytes(Path("whole.png").read_bytes()[:5000])
    with pytest.raises(BrokenFiles, match=r"half\.png: image file is truncated"):
        preprocessing().read(Image.open("half.png"))
    closed = Image.open("whole.png")
    closed.close()
    with pytest.raises(BrokenFiles, match=r"whole\.png: .*closed"):
        preprocessing().read(closed)


def test_a_file_that_is_not_there():
    with pytest.raises(BrokenFiles, match=r"gone\.png: no such file"):
        preprocessing().read("gone.png")


@pytest.mark.parametrize(
    "taught",
    [
        {},
        {"in_channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3, "size": 5, "keep_aspect": False},
        {"in_channels": 3, "mean": None, "std": [0.5] * 3, "size": [5, 5], "keep_aspect": False},
    ],
)
def test_a_checkpoint_that_does_not_say_it(taught):
    with pytest.raises(UserError, match="does not say how its images were made"):
        Preprocessing.from_state(taught)


def test_values_that_do_not_fit():
    with pytest.raises(UserError, match=r"data\.mean must be 3 finite numbers"):
        Preprocessing(3, (5, 5), False, [0.5], [0.5])
    with pytest.raises(UserError, match=r"data\.image_size is \[0, 5\]"):
        Preprocessing(1, (0, 5), False, [0.5], [0.5])


@pytest.mark.parametrize(
    "std", [0.0, -1.0, float("nan"), float("inf"), 1e-320, True, pytest.param(10**400, id="huge"), "0.5", None]
)
def test_a_standard_deviation_that_is_none(std):
    with pytest.raises(UserError, match=r"data\.std (is \[0\.5, .*\], but must be above 0|must be 2 finite numbers)"):
        Preprocessing(2, (5, 5), False, [0.5, 0.5], [0.5, std])


@pytest.mark.parametrize("mean", [float("nan"), float("-inf"), 1e300, True, "0.5", None])
def test_a_mean_that_is_none(mean):
    with pytest.raises(UserError, match=r"data\.mean must be 2 finite numbers"):
        Preprocessing(2, (5, 5), False, [0.5, mean], [0.5, 0.5])


@pytest.mark.parametrize("size", [[28.5, 28.5], [True, 9], [30000, 30000], [-3, 5], [5, 5, 5], ["5", "5"]])
def test_a_size_that_is_none(size):
    taught = {"in_channels": 1, "mean": [0.5], "std": [0.5], "size": size, "keep_aspect": False}
    with pytest.raises(UserError, match=r"data\.image_size is "):
        Preprocessing.from_state(taught)


@pytest.mark.parametrize("channels", [True, 1.0, 0, -1])
def test_a_number_of_channels_that_is_none(channels):
    with pytest.raises(UserError, match="channels"):
        Preprocessing(channels, (5, 5), False, [0.5] * int(channels), [0.5] * int(channels))


def test_pixels_are_the_reverse_of_normalise():
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    given = Preprocessing(3, None, False, [0.1, 0.5, 0.9], [0.3, 0.2, 0.1])
    assert torch.equal(given.pixels(given.normalise(images)), images)
    assert given.pixels(torch.full((1, 3, 1, 1), 99.0)).tolist() == [[[[255]]] * 3]
