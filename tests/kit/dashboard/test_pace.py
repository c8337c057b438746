from types import SimpleNamespace

import pytest

from kit.dashboard import pace, scalars
from kit.dashboard.pace import MOST_BYTES, Pace


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(pace.time, "perf_counter", lambda: now.seconds)
    return now


def test_no_more_than_the_budget(clock):
    own = Pace(0.01)
    own.begin()
    assert own.due
    with own.spending():
        clock.seconds += 1
    own.drawn(10)
    clock.seconds += 98.5
    assert not own.affordable and not own.due
    clock.seconds += 0.6
    assert own.affordable and own.due


def test_what_fails_was_spent_too(clock):
    own = Pace(0.01)
    own.begin()
    with pytest.raises(ValueError, match="x"), own.spending():
        clock.seconds += 2
        raise ValueError("x")
    assert own.spent == 2


def test_ever_more_rarely_so_that_a_day_has_few(clock):
    own, drawn = Pace(1.0), 0
    own.begin()
    for _ in range(86_400 // 10):
        clock.seconds += 10
        if own.due:
            own.drawn(0)
            drawn += 1
    assert 40 < drawn < 80


@pytest.mark.parametrize(("every", "look", "show"), [(5, 0.1, 0.2), (20, 0.5, 0.3), (60, 0.8, 0.5)])
def test_what_is_looked_at_is_shown_through_a_long_run(clock, every, look, show):
    """A validation is decided on once, before it is looked at: the time of looking does not take that of showing."""
    own, drawn = Pace(0.01), 0
    own.begin()
    for _ in range(8 * 3600 // every):
        clock.seconds += every
        if own.due:
            with own.spending():
                clock.seconds += look + show
            own.drawn(0)
            drawn += 1
    assert drawn >= 30 and own.spent < 0.0101 * own.elapsed


def test_not_without_end(clock):
    own = Pace(1.0)
    own.begin()
    own.drawn(int(MOST_BYTES))
    clock.seconds += 1000
    assert own.affordable and not own.due


def test_points_of_curves_are_thinned_by_the_step_alone():
    assert [scalars.thinned(20, step) for step in (1, 19_999, 20_000, 39_999, 40_000)] == [20, 20, 40, 40, 80]
    points = sum(step % scalars.thinned(20, step) == 0 for step in range(20, 3_000_000, 20))
    assert 3000 < points < 6000


@pytest.mark.parametrize(
    ("rates", "wanted"),
    [([0.1, 0.1], {"learning_rate": 0.1}), ([0.1, 0.2], {"learning_rate/1": 0.1, "learning_rate/2": 0.2}), ([], {})],
)
def test_one_learning_rate_where_all_are_equal(rates, wanted):
    optimizer = SimpleNamespace(param_groups=[{"lr": rate} for rate in rates])
    assert scalars.learning_rates(SimpleNamespace(optimizers=[optimizer])) == wanted


@pytest.mark.parametrize(
    ("monitor", "charts"),
    [("val/map", {"loss", "map"}), ("val/loss", {"loss"})],
)
def test_training_and_validation_share_their_charts(monitor, charts):
    found = scalars.layout(SimpleNamespace(monitor=monitor, mode="max"))["training and validation"]
    assert charts <= set(found) and len(set(found) - charts) == 4
    assert found["loss"] == ["Multiline", ["train/loss$", "val/loss$"]]
    if "map" in charts:
        assert found["map"] == ["Multiline", ["overfitting/train_map$", "val/map$"]]
