from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.utils import draw_segmentation_masks

from kit.ground.drawing import BLACK, class_colour
from kit.ground.errors import UserError
from kit.masks.predictions import ALPHA, STRIP, WRONG, MaskPredictions, background_class, draw_masks

NAMES = ["sky", "road", "car"]
IMAGE = torch.full((3, 150, 200), 100, dtype=torch.uint8)


def mask(value):
    made = torch.zeros(150, 200, dtype=torch.uint8)
    made[:, 100:] = value
    return made


def mixed(label):
    return (0.4 * 100 + 0.6 * torch.tensor(class_colour(label))).round()


def near(pixel, wanted):
    return bool(((pixel.float() - wanted).abs() <= 2).all())


def test_classes_have_colours_and_a_legend():
    drawn = draw_masks(IMAGE, NAMES, mask(2))
    assert drawn.shape[2] == 200 and drawn.shape[1] > 150
    assert near(drawn[:, 50, 50], mixed(0)) and near(drawn[:, 50, 150], mixed(2))
    named = drawn[:, 152:].flatten(1).T.tolist()
    assert list(class_colour(0)) in named and list(class_colour(2)) in named and list(class_colour(1)) not in named


def test_ignored_pixels_are_black_and_not_in_the_legend():
    drawn = draw_masks(IMAGE, NAMES, target=mask(255).long())
    assert near(drawn[:, 50, 150], torch.tensor([40.0, 40, 40]))
    assert list(class_colour(0)) in drawn[:, 152:].flatten(1).T.tolist()
    both = draw_masks(IMAGE, NAMES, mask(2), mask(255))  # ignored in the target only
    named = both[:, 152:].flatten(1).T.tolist()
    assert list(class_colour(2)) in named and list(class_colour(1)) not in named


def test_two_masks_have_panels_of_both_and_of_errors():
    target = mask(2)
    target[:, 180:] = 255
    drawn = draw_masks(IMAGE, NAMES, mask(1), target)
    caption = (drawn.shape[1] - 2 * 150) // 3
    assert drawn.shape[2] == 2 * 200 + 4 and 10 < caption < 50
    assert torch.equal(drawn[:, :150, :200], IMAGE)
    annotated, (predicted, wrong) = drawn[:, :150, 204:], (drawn[:, :, :200], drawn[:, :, 204:])
    below = drawn[:, 150:, 204].T.tolist().index([100, 100, 100]) + 150  # the first row of the lower panels
    assert near(annotated[:, 50, 150], mixed(2)) and near(annotated[:, 50, 190], torch.tensor([40.0] * 3))
    assert near(predicted[:, below + 50, 150], mixed(1))
    assert near(wrong[:, below + 50, 50], torch.tensor([100.0] * 3))
    assert near(wrong[:, below + 50, 150], 40 + 0.6 * torch.tensor(WRONG))
    assert near(wrong[:, below + 50, 190], torch.tensor([40.0] * 3))


@pytest.mark.parametrize(
    ("names", "background"),
    [
        (["background", "person"], 0),
        (["person", "_Background_"], 1),
        (["0", "1"], 0),
        (["1", "0"], None),
        (["sky", "road"], None),
    ],
)
def test_background_is_untinted(names, background):
    assert background_class(names) == background
    drawn = draw_masks(IMAGE, names, (mask(1) > 0).byte())
    for k, column in enumerate((50, 150)):
        assert torch.equal(drawn[:, 50, column], IMAGE[:, 50, column]) == (k == background)


def test_palette_has_the_colours_of_pictures(tmp_path):
    predictions = MaskPredictions(tmp_path, ["background", "road", "car"], pictures=False)
    predictions.write_files(tmp_path / "a.jpg", "a", mask(2))
    with Image.open(tmp_path / "masks/a.png") as image:
        assert image.getpalette()[:9] == [0, 0, 0, *class_colour(1), *class_colour(2)]
    listed = (tmp_path / "masks/classes.txt").read_text().splitlines()
    colours = [" ".join(map(str, class_colour(k))) for k in range(3)]
    assert listed == ["background 0 0 0", f"road {colours[1]}", f"car {colours[2]}"]


def test_small_image_and_mask_are_enlarged():
    small = torch.zeros(1, 10, 16, dtype=torch.uint8)
    classes = torch.zeros(10, 16, dtype=torch.long)
    classes[9, 15] = 1
    drawn = draw_masks(small, NAMES, classes)
    assert drawn.shape[2] == 16 * 22
    assert near(drawn[:, 9 * 22 + 6, 15 * 22 + 6], 0.6 * torch.tensor(class_colour(1)))
    assert draw_masks(small, NAMES).shape == (3, 220, 352)


def test_pictures_equal_those_of_torchvision():
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(256, (3, STRIP + 44, 230), generator=generator, dtype=torch.uint8)
    classes = torch.tensor([0, 1, 2, 255], dtype=torch.uint8)[torch.randint(4, image.shape[1:], generator=generator)]
    colours = [*map(class_colour, range(3)), BLACK]
    masks = torch.stack([classes == k for k in (0, 1, 2, 255)])
    expected = draw_segmentation_masks(image, masks, alpha=ALPHA, colors=colours)
    assert torch.equal(draw_masks(image, NAMES, classes)[:, : STRIP + 44], expected)


@pytest.mark.parametrize("name", ["masks/0.png", "masks/val/0.png", "masks/classes.txt"])
def test_annotated_masks_are_not_overwritten(name):
    file = Path("data", name)
    file.parent.mkdir(parents=True)
    file.write_text("sky\nroad\ncar\n")
    with pytest.raises(UserError, match=r"data/masks has masks or classes that .*; choose another folder with --out"):
        MaskPredictions(Path("data"), NAMES)
    assert file.read_text() == "sky\nroad\ncar\n" and len(list(Path("data").rglob("*.*"))) == 1


def test_predicted_masks_are_overwritten():
    for value in (1, 2):
        MaskPredictions(Path(), NAMES, pictures=False).write_files(Path("0.jpg"), "0", mask(value))
    assert Image.open("masks/0.png").getextrema() == (0, 2)
    with pytest.raises(UserError, match="choose another folder"):
        MaskPredictions(Path(), [*NAMES, "tree"])
