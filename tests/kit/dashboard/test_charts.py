import pytest
import torch

from kit.charts import Bars, Curves, Density, Matrix, precision_recall
from kit.dashboard.charts import COLOURS, MAX_BARS, confused_pairs, draw_chart
from kit.dashboard.history import line_chart


def names(count: int) -> list[str]:
    return [f"c{k}" for k in range(count)]


LINE = (torch.tensor([0.0, 0.5, 1]), torch.tensor([1.0, 0.5, 0]))
CHARTS = {
    "curves": Curves("a", "x", "y", {"all": LINE, "$cat": LINE}, "all", (0, 1), (0, 1), True, (0.5, 0.5, "best")),
    "many curves": Curves("a", "x", "y", {str(k): LINE for k in range(40)}),
    "matrix": Matrix("a", torch.eye(3).long(), ["ä", "ж", "猫"], "images"),
    "large matrix": Matrix("a", torch.eye(200).long(), names(200), "images"),
    "bars": Bars("a", "images", {str(k): k for k in range(50)}),
    "no bars": Bars("a", "images", {}),
    "empty curves": Curves("a", "x", "y", {}),
    "empty matrix": Matrix("a", torch.zeros(3, 3).long(), names(3), "images"),
    "empty density": Density("a", "x", "y", torch.empty(0), torch.empty(0), (0, 1), (0, 1)),
    "density": Density("a", "x", "y", torch.rand(9), torch.rand(9), (0, 1), (0, 1), True),
}


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)
@pytest.mark.filterwarnings("error")  # such as one of a glyph that is missing
def test_chart_has_the_size_of_a_picture(chart):
    drawn = draw_chart(chart)
    assert drawn.dtype == torch.uint8 and drawn.shape == (3, 578, 714) and drawn.float().std() > 2


def test_chart_of_a_class_derived_from_another_is_drawn_alike():
    class Counts(Bars):
        pass

    bars = "a", "images", {"cat": 3}
    assert torch.equal(draw_chart(Counts(*bars)), draw_chart(Bars(*bars)))


@pytest.mark.parametrize(("count", "is_named"), [(10, True), (11, False)])
def test_ten_lines_beside_the_main_one_have_names(count, is_named):
    main = (LINE[0], torch.ones(3))
    drawn = draw_chart(Curves("a", "x", "y", {"main": main} | {str(k): LINE for k in range(count)}, "main"))
    grey = int((drawn == 191).all(0).sum())  # the colour of lines without names
    assert (grey < 300) is is_named


@pytest.mark.parametrize(
    ("count", "names_of_curves"), [(1, ["0.20 c0"]), (2, ["0.20 c0", "0.30 c1", "0.25 all classes"])]
)
def test_mean_curve_is_last(count, names_of_curves):
    classes = {f"c{k}": (0.2 + k / 10, torch.tensor([1.0, k])) for k in range(count)}
    chart = precision_recall("mAP", torch.tensor([0.0, 1]), classes)
    assert [*chart.curves] == names_of_curves and chart.main == names_of_curves[-1]
    assert chart.curves[chart.main][1].tolist() == [1, (count - 1) / 2] and "0.2" in chart.title


def test_more_than_a_hundred_classes_have_their_mean_only():
    classes = {name: (0.5, torch.tensor([1.0, 0])) for name in names(101)}
    assert [*precision_recall("mAP", torch.tensor([0.0, 1]), classes).curves] == ["0.50 all classes"]


def test_counts_darken_the_cells_of_a_matrix():
    wrong = draw_chart(Matrix("", torch.tensor([[0, 8], [8, 0]]), ["", ""], "images")).float().mean(0)
    right = draw_chart(Matrix("", torch.tensor([[8, 0], [0, 8]]), ["", ""], "images")).float().mean(0)
    top_left = (slice(60, 250), slice(60, 350))
    assert right[top_left].mean() < wrong[top_left].mean() - 50


def test_most_confused_pairs_come_first():
    counts = torch.zeros(70, 70, dtype=torch.long).fill_diagonal_(90)
    counts[3, 5], counts[8, 1] = 10, 30
    pairs = confused_pairs(Matrix("a", counts, names(70), "images"))
    assert pairs.values == {"c8 as c1": 30, "c3 as c5": 10}
    assert pairs.texts == {"c8 as c1": "30 (25%)", "c3 as c5": "10 (10%)"}
    assert len(confused_pairs(Matrix("a", torch.ones(70, 70).long(), names(70), "images")).values) <= MAX_BARS


@pytest.mark.parametrize(
    ("count", "text"), [(9_999, "9999"), (999_499, "999k"), (999_500, "1M"), (999_499_999, "999M"), (999_999_999, "1G")]
)
def test_count_has_at_most_five_characters(count, text):
    counts = torch.zeros(70, 70, dtype=torch.long)
    counts[0, 1] = count
    assert confused_pairs(Matrix("a", counts, names(70), "images")).texts == {"c0 as c1": f"{text} (100%)"}


def test_perfect_large_matrix_does_not_look_empty():
    perfect, empty = (Matrix("a", torch.eye(70).long() * count, names(70), "images") for count in (3, 0))
    assert not torch.equal(draw_chart(perfect), draw_chart(empty))
    assert "210 images" in confused_pairs(perfect).title and "0 images" in confused_pairs(empty).title


def test_pairs_of_long_names_that_are_cut_to_the_same_text_are_all_kept():
    counts = torch.zeros(70, 70, dtype=torch.long)
    counts[0, 1], counts[2, 3] = 4, 5
    long = [f"the same beginning {k:02} and the same end" for k in range(70)]
    assert list(confused_pairs(Matrix("a", counts, long, "images")).values.values()) == [5, 4]


def test_wrong_cells_have_another_colour_than_right_ones():
    drawn = draw_chart(Matrix("", torch.tensor([[5, 5], [5, 5]]), ["", ""], "images")).float()
    right, wrong = drawn[:, 100, 150], drawn[:, 100, 650]
    assert right[2] > right[0] and wrong[0] > wrong[2]


def test_run_without_a_curve_leaves_the_colours_of_the_others():
    chart = line_chart("loss", {"none": [], "short": [(1, 0.5)], "some": [(1, 1.0), (2, 0.5)]})
    assert [len(x) for x, _ in chart.curves.values()] == [0, 0, 2]
    pixels = draw_chart(chart).flatten(1).T.tolist()
    blue, orange, green = ([int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in COLOURS[:3])
    assert green in pixels and blue not in pixels and orange not in pixels  # neither as lines nor in the legend
    assert line_chart("loss", {"short": [(1, 0.5)]}) is None


@pytest.mark.parametrize(("places", "are_grey"), [((0, 9), False), ((2, 11), False), ((1, 11), True)])
def test_lines_that_would_look_the_same_are_grey(places, are_grey):
    empty = (torch.empty(0), torch.empty(0))
    drawn = draw_chart(Curves("a", "x", "y", {str(k): LINE if k in places else empty for k in range(12)}))
    assert (int((drawn == 191).all(0).sum()) > 300) is are_grey
