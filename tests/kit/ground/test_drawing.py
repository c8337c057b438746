import pytest
import torch

from kit.ground.drawing import GROUND, RED, below, beside, captioned, colour, enlarged, enlargement, grid, legend, write

DOT = torch.tensor([[[1, 2]], [[3, 4]], [[5, 6]]], dtype=torch.uint8)  # [3 1 2]


def test_the_colours_of_a_hundred_classes_differ():
    assert len({colour(place) for place in range(100)}) == 100
    nearest = [sum(abs(a - b) for a, b in zip(colour(i), colour(i + 1), strict=True)) for i in range(100)]
    assert min(nearest) > 100
    assert colour(3) == colour(3)


def test_pixels_become_squares():
    assert enlarged(DOT[:1], 2).tolist() == [[[1, 1, 2, 2], [1, 1, 2, 2]]]
    assert [enlargement(torch.zeros(3, *size)) for size in ((8, 8), (28, 40), (90, 300), (480, 640))] == [16, 5, 1, 1]


def test_a_strip_is_enlarged_as_far_as_a_jpeg_can_be():
    for size in ((1, 300), (300, 1), (2, 8000), (1, 60000)):
        strip = torch.zeros(3, *size)
        assert 1 <= enlargement(strip, 240) * max(size) <= max(8192, *size)
    assert enlargement(torch.zeros(3, 1, 300), 240) == 27


@pytest.mark.parametrize("word", ["a\nb", "a\tb", "a\x00b", "a\udcffb"])
def test_a_name_with_what_cannot_be_written_is_written_without_it(word):
    image = torch.zeros(3, 40, 90, dtype=torch.uint8)
    assert torch.equal(write(image, [((0, 0), word, RED)]), write(image, [((0, 0), "a b", RED)]))
    assert torch.equal(captioned(image, [(word, RED)]), captioned(image, [("a b", RED)]))
    assert torch.equal(legend([(word, RED)], 90), legend([("a b", RED)], 90))


def test_images_are_put_together_on_one_ground():
    tall = torch.full((3, 3, 1), 9, dtype=torch.uint8)
    both = beside([DOT, tall], gap=2)
    assert both.shape == (3, 3, 5)
    assert torch.equal(both[:, :1, :2], DOT) and torch.equal(both[:, :, 4:], tall)
    assert both[:, 2, 0].tolist() == list(GROUND) == both[:, 0, 3].tolist()
    stacked = below([tall, DOT], gap=1)
    assert stacked.shape == (3, 5, 2) and torch.equal(stacked[:, 4:], DOT)


def test_a_grid_breaks_its_rows():
    assert grid([DOT] * 5, width=7, gap=1).shape == (3, 5, 5)
    assert grid([DOT], width=1).shape == DOT.shape


def test_a_caption_is_below_and_changes_nothing_of_the_image():
    image = torch.randint(0, 255, (3, 20, 30), dtype=torch.uint8)
    drawn = captioned(image, [("a", RED), ("a caption that is wider than its image", RED)])
    assert torch.equal(drawn[:, :20, :30], image) and drawn.shape[2] > 200
    inks = drawn[:, 20:].flatten(1).T
    assert (inks == torch.tensor(RED)).all(1).any() and not (
        drawn[:, :20, 30:] - torch.tensor(GROUND)[:, None, None]
    ).any()


def test_words_stay_in_the_image():
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    for place in ((-9, -9), (999, 999)):
        drawn = write(image, [(place, "x", RED)])
        plate = (drawn == torch.tensor(RED, dtype=torch.uint8)[:, None, None]).all(0)
        assert drawn.shape == image.shape and plate.sum() > 50
    assert torch.equal(write(image, []), image)


def test_a_legend_breaks_its_rows():
    names = [(f"class {k}", colour(k)) for k in range(9)]
    assert legend(names, 1000).shape[1] < legend(names, 150).shape[1]
    assert legend(names, 150).shape[2] == 150
    assert legend([], 150).shape[1:] == (0, 150)
