"""Test that an image is prepared in use as in training, whether it is a file, a PIL image or a tensor."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kit.data import Files, Preprocessing
from kit.data.decode import PADDING
from kit.data.preprocessing import for_channels
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
def test_file_pil_image_and_tensor_give_the_training_pixels(mode, keep_aspect, channels):
    image, kind = photo(mode=mode), preprocessing(channels, keep_aspect=keep_aspect)
    image.save("a.png")
    trained = Files([0], [Path("a.png")], channels, (20, 30), keep_aspect).read(0)
    tensor = torch.from_numpy(np.array(image)).view(33, 21, -1).permute(2, 0, 1)
    for given in ("a.png", Path("a.png"), image, tensor):
        pixels, size = kind.read(given)
        assert size == (33, 21) and torch.equal(pixels, trained), type(given)


def test_image_keeps_its_size_without_image_size():
    pixels, size = preprocessing(size=None).read(photo())
    assert pixels.shape == (3, 33, 21) and size == (33, 21)


def test_area_and_padding_of_a_fitted_image():
    kind = preprocessing(keep_aspect=True)
    assert kind.unpadded_size((40, 40)) == (20, 20) and kind.unpadded_size((10, 60)) == (5, 30)
    pixels, _ = kind.read(Image.new("RGB", (40, 40)))
    assert pixels[:, :, :20].eq(0).all() and pixels[:, :, 20:].eq(PADDING).all()
    assert preprocessing().unpadded_size((40, 40)) == (20, 30)


def test_size_is_that_of_the_upright_image():
    image = photo()
    image.getexif()[0x0112] = 6
    image.save("turned.png", exif=image.getexif())
    for given in ("turned.png", Image.open("turned.png")):
        assert preprocessing(size=None).read(given)[1] == (21, 33)


def test_five_channels_need_tensors():
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
def test_inputs_that_are_not_images_are_refused(given, words):
    with pytest.raises(UserError, match=words):
        preprocessing().read(given)


def test_pil_image_of_a_truncated_or_closed_file_is_broken():
    photo((300, 300)).save("whole.png")
    Path("half.png").write_bytes(Path("whole.png").read_bytes()[:5000])
    with pytest.raises(BrokenFiles, match=r"half\.png: image file is truncated"):
        preprocessing().read(Image.open("half.png"))
    closed = Image.open("whole.png")
    closed.close()
    with pytest.raises(BrokenFiles, match=r"whole\.png: .*closed"):
        preprocessing().read(closed)


def test_missing_file_is_broken():
    with pytest.raises(BrokenFiles, match=r"gone\.png: no such file"):
        preprocessing().read("gone.png")


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"in_channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3, "size": 5, "keep_aspect": False},
        {"in_channels": 3, "mean": None, "std": [0.5] * 3, "size": [5, 5], "keep_aspect": False},
    ],
)
def test_incomplete_state_of_a_checkpoint_is_refused(state):
    with pytest.raises(UserError, match="does not contain the preprocessing"):
        Preprocessing.from_state(state)


def test_values_that_do_not_match_are_refused():
    with pytest.raises(UserError, match=r"data\.mean must be 3 numbers"):
        Preprocessing(3, (5, 5), False, [0.5], [0.5])
    with pytest.raises(UserError, match=r"data\.image_size is \[0, 5\]"):
        Preprocessing(1, (0, 5), False, [0.5], [0.5])


@pytest.mark.parametrize(
    "std", [0.0, -1.0, float("nan"), float("inf"), 1e-320, True, pytest.param(10**400, id="huge"), "0.5", None]
)
def test_invalid_std_is_refused(std):
    with pytest.raises(UserError, match=r"data\.std must be 2 numbers from 1e-06 to 1e\+06"):
        Preprocessing(2, (5, 5), False, [0.5, 0.5], [0.5, std])


@pytest.mark.parametrize("mean", [float("nan"), float("-inf"), 1e300, True, "0.5", None])
def test_invalid_mean_is_refused(mean):
    with pytest.raises(UserError, match=r"data\.mean must be 2 numbers from -1e\+06 to 1e\+06"):
        Preprocessing(2, (5, 5), False, [0.5, mean], [0.5, 0.5])


@pytest.mark.parametrize("levels", [[0, 0], [5, 1], [0, float("nan")], [0, float("inf")], [1]])
def test_invalid_levels_are_refused(levels):
    state = {"in_channels": 1, "mean": [0.5], "std": [0.5], "size": [5, 5], "keep_aspect": False, "levels": levels}
    with pytest.raises(UserError, match=r"levels are .*, but must be two finite numbers, the smaller first"):
        Preprocessing.from_state(state)


@pytest.mark.parametrize("size", [[28.5, 28.5], [True, 9], [30000, 30000], [-3, 5], [5, 5, 5], ["5", "5"]])
def test_invalid_size_is_refused(size):
    state = {"in_channels": 1, "mean": [0.5], "std": [0.5], "size": size, "keep_aspect": False}
    with pytest.raises(UserError, match=r"data\.image_size is "):
        Preprocessing.from_state(state)


@pytest.mark.parametrize("channels", [True, 1.0, 0, -1])
def test_invalid_number_of_channels_is_refused(channels):
    with pytest.raises(UserError, match="channels"):
        Preprocessing(channels, (5, 5), False, [0.5] * int(channels), [0.5] * int(channels))


def test_pixels_reverses_normalise():
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    given = Preprocessing(3, None, False, [0.1, 0.5, 0.9], [0.3, 0.2, 0.1])
    assert torch.equal(given.pixels(given.normalise(images)), images)
    assert given.pixels(torch.full((1, 3, 1, 1), 99.0)).tolist() == [[[[255]]] * 3]


def test_statistics_for_another_number_of_channels():
    assert for_channels([0.25, 0.5, 0.75], 3) == [0.25, 0.5, 0.75]
    assert for_channels([0.25, 0.5, 0.75], 1) == [0.5]
