import pytest
import torch

from kit.charts import Bars, Curves, Density, Matrix
from kit.dashboard.charts import MAX_BARS, confused_pairs, draw_chart


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
    "density": Density("a", "x", "y", torch.rand(9), torch.rand(9), (0, 1), (0, 1), True),
}


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)
def test_chart_has_the_size_of_a_picture(chart):
    drawn = draw_chart(chart)
    assert drawn.dtype == torch.uint8 and drawn.shape == (3, 578, 714) and drawn.float().std() > 5


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
