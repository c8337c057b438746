import torch
from torchvision.utils import draw_segmentation_masks

from kit.ground.drawing import class_colour
from kit.masks.predictions import ALPHA, BLACK, STRIP, draw_masks

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


def test_image_target_and_prediction_are_side_by_side():
    drawn = draw_masks(IMAGE, NAMES, mask(1), mask(2))
    assert drawn.shape[2] == 3 * 200 + 2 * 4
    assert torch.equal(drawn[:, :150, :200], IMAGE)
    assert near(drawn[:, 50, 204 + 150], mixed(2)) and near(drawn[:, 50, 408 + 150], mixed(1))


def test_small_image_and_mask_are_enlarged():
    small = torch.zeros(1, 10, 16, dtype=torch.uint8)
    classes = torch.zeros(10, 16, dtype=torch.long)
    classes[9, 15] = 1
    drawn = draw_masks(small, NAMES, classes)
    assert drawn.shape[2] == 16 * 13
    assert near(drawn[:, 9 * 13 + 6, 15 * 13 + 6], 0.6 * torch.tensor(class_colour(1)))
    assert draw_masks(small, NAMES).shape == (3, 130, 208)


def test_pictures_equal_those_of_torchvision():
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(256, (3, STRIP + 44, 130), generator=generator, dtype=torch.uint8)
    classes = torch.tensor([0, 1, 2, 255], dtype=torch.uint8)[torch.randint(4, image.shape[1:], generator=generator)]
    colours = [*map(class_colour, range(3)), BLACK]
    masks = torch.stack([classes == k for k in (0, 1, 2, 255)])
    expected = draw_segmentation_masks(image, masks, alpha=ALPHA, colors=colours)
    assert torch.equal(draw_masks(image, NAMES, classes)[:, : STRIP + 44], expected)
