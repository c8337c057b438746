import pytest
import torch

from kit.training.averaging import average


def averages(decay: float, steps: int) -> list[float]:
    """Of a weight that is n after n steps."""
    there, found = [torch.zeros(1)], []
    for step in range(steps):
        if step:  # torch takes the first weights as they are
            average(decay, there, [torch.full((1,), float(step))], torch.tensor(step))
        found.append(there[0].item())
    return found


def test_a_short_run_forgets_what_it_began_with():
    found, expected = averages(0.998, 20), 0.0
    for step in range(1, 20):
        expected += (1 - (1 + step) / (10 + step)) * (step - expected)
    assert found[-1] == pytest.approx(expected) and expected > 10


def test_a_long_one_has_the_decay_that_was_asked_for():
    found = averages(0.5, 20)
    assert found[-1] == pytest.approx(found[-2] + 0.5 * (19 - found[-2]))
