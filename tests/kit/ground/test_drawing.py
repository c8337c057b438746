"""Pictures are composed of images, labels, captions and legends."""

import pytest
import torch

from kit.ground.drawing import (
    BACKGROUND,
    PADDING,
    RED,
    WHITE,
    add_caption,
    class_colour,
    current_text_size,
    draw_texts,
    drawable,
    grid,
    label_size,
    legend,
    shortened,
    side_by_side,
    stacked,
    text_size,
    to_lab,
    zoom_factor,
    zoomed,
)
from kit.ground.terminal import escape

DOT = torch.tensor([[[1, 2]], [[3, 4]], [[5, 6]]], dtype=torch.uint8)  # [3 1 2]


def test_lab_of_known_colours():
    known = {(255, 255, 255): (100, 0, 0), (255, 0, 0): (53.24, 80.09, 67.20), (0, 0, 0): (0, 0, 0)}
    assert to_lab(torch.tensor([*known])).tolist() == [pytest.approx(lab, abs=0.1) for lab in known.values()]


@pytest.mark.parametrize(("count", "distance"), [(20, 35), (60, 20), (254, 10)])
def test_colours_of_classes_are_far_apart(count, distance):
    points = to_lab(torch.tensor([class_colour(k) for k in range(count)]))
    assert torch.pdist(points).min() > distance  # in CIE Lab, where 2.3 is just noticeable
    assert torch.cdist(points, to_lab(torch.tensor([WHITE, (0, 0, 0)]))).min() > distance / 2


def test_any_class_number_has_a_colour():
    assert class_colour(10**6) == class_colour(10**6 % 255)


def test_zoom():
    assert zoomed(DOT[:1], 2).tolist() == [[[1, 1, 2, 2], [1, 1, 2, 2]]]
    assert [zoom_factor(torch.zeros(3, *size)) for size in ((8, 8), (28, 40), (90, 300), (480, 640))] == [28, 8, 2, 1]


def test_zoom_is_limited_by_the_longer_side():
    for size in ((1, 300), (300, 1), (2, 8000), (1, 60000)):
        strip = torch.zeros(3, *size)
        assert 1 <= zoom_factor(strip, 240) * max(size) <= max(8192, *size)
    assert zoom_factor(torch.zeros(3, 1, 300), 240) == 27


@pytest.mark.parametrize("word", ["a\nb", "a\tb", "a\x00b", "a\udcffb"])
def test_control_characters_are_escaped(word):
    image, escaped = torch.zeros(3, 40, 90, dtype=torch.uint8), escape(word)
    assert torch.equal(draw_texts(image, [((0, 0), word, RED)]), draw_texts(image, [((0, 0), escaped, RED)]))
    assert torch.equal(add_caption(image, [(word, RED)]), add_caption(image, [(escaped, RED)]))
    assert torch.equal(legend([(word, RED)], 90), legend([(escaped, RED)], 90))


def test_images_side_by_side_and_stacked():
    tall = torch.full((3, 3, 1), 9, dtype=torch.uint8)
    both = side_by_side([DOT, tall], gap=2)
    assert both.shape == (3, 3, 5)
    assert torch.equal(both[:, :1, :2], DOT) and torch.equal(both[:, :, 4:], tall)
    assert both[:, 2, 0].tolist() == list(BACKGROUND) == both[:, 0, 3].tolist()
    column = stacked([tall, DOT], gap=1)
    assert column.shape == (3, 5, 2) and torch.equal(column[:, 4:], DOT)


def test_single_image_is_not_copied():
    assert side_by_side([DOT]) is DOT
    assert stacked([DOT]).data_ptr() == DOT.data_ptr()


def test_grid_breaks_rows():
    assert grid([DOT] * 5, width=7, gap=1).shape == (3, 5, 5)
    assert grid([DOT], width=1).shape == DOT.shape


def test_caption_is_below_the_unchanged_image():
    image = torch.randint(0, 255, (3, 20, 30), dtype=torch.uint8)
    drawn = add_caption(image, [("a", RED), ("a caption that is wider than its image", RED)])
    assert torch.equal(drawn[:, :20, :30], image) and drawn.shape[2] > 200
    inks = drawn[:, 20:].flatten(1).T
    assert (inks == torch.tensor(RED)).all(1).any() and not (
        drawn[:, :20, 30:] - torch.tensor(BACKGROUND)[:, None, None]
    ).any()


def test_labels_stay_within_the_image():
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    for place in ((-9, -9), (999, 999)):
        drawn = draw_texts(image, [(place, "x", RED)])
        plate = (drawn == torch.tensor(RED, dtype=torch.uint8)[:, None, None]).all(0)
        assert drawn.shape == image.shape and plate.sum() > 50
    assert torch.equal(draw_texts(image, []), image)


def test_legend_breaks_rows():
    names = [(f"class {k}", class_colour(k)) for k in range(9)]
    assert legend(names, 1000).shape[1] < legend(names, 150).shape[1]
    assert legend(names, 150).shape[2] <= 150
    assert legend([], 150).shape[1] == 0


def test_font_has_more_than_ascii_and_others_are_escaped(capfd):
    assert drawable("Straße, жук, λ, naïve") == "Straße, жук, λ, naïve"
    assert drawable("猫 \u202e") == r"\u732b \u202e"
    image = torch.zeros(3, 40, 90, dtype=torch.uint8)
    assert torch.equal(add_caption(image, [("猫", RED)]), add_caption(image, [(r"\u732b", RED)]))
    assert not torch.equal(add_caption(image, [("ж", RED)]), add_caption(image, [("ш", RED)]))
    assert capfd.readouterr() == ("", "")


def test_texts_are_shortened_at_their_start():
    width = label_size("…bc/0012.png")[0]
    assert shortened("abc/0012.png", 1000) == "abc/0012.png"
    assert shortened("aaaaabc/0012.png", width) == "…bc/0012.png"
    assert shortened("name", 1) == "…"
    text = "".join(chr(97 + k % 26) for k in range(900))
    cut = shortened(text, 300)
    assert text.endswith(cut[1:]) and label_size(cut)[0] <= 300 < label_size(f"…{text[-len(cut) :]}")[0]


def test_size_of_texts_is_that_of_the_with_block():
    before = label_size("name")
    with text_size(40):
        assert label_size("name")[1] == 40 + 2 * PADDING and label_size("name")[0] > 2 * before[0]
        assert current_text_size(7) == 40
    assert label_size("name") == before and current_text_size(7) == 7
