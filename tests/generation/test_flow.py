import pytest
import torch

from project.generation.flow import Euler, Heun, noise


def growth(x, time):
    """Whose solution is x times e."""
    return x


@pytest.mark.parametrize(("solver", "factor"), [(Euler(4), 1.25**4), (Heun(4), (1 + 0.25 + 0.25**2 / 2) ** 3 * 1.25)])
def test_steps_of_exponential_growth(solver, factor):
    start = torch.tensor([1.0, -2.0]).view(2, 1, 1, 1)
    assert torch.allclose(solver(growth, start), factor * start)


@pytest.mark.parametrize(("kind", "order"), [(Euler, 1), (Heun, 2)])
def test_twice_the_steps_err_a_half_or_a_quarter(kind, order):
    start = torch.ones(1, 1, 1, 1, dtype=torch.double)
    few, many = (abs(float(kind(steps)(growth, start)) - torch.e) for steps in (50, 100))
    assert few / many == pytest.approx(2**order, rel=0.05)


@pytest.mark.parametrize("solver", [Euler(1), Heun(1), Euler(3)])
def test_a_straight_way_needs_one_step(solver):
    """Of a single image the velocity is known exactly; at its end no solver asks."""
    image, start = torch.rand(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    way = image - start
    assert torch.allclose(solver(lambda x, t: way, start), image, atol=1e-6)


def test_times_are_those_of_the_steps():
    asked = []
    Heun(2)(lambda x, t: asked.append(t) or x, torch.ones(1, 1, 1, 1))
    assert asked == [0, 0.5, 0.5]


def test_noise_is_a_numbers_own():
    many = noise([3, 1, 2], (2, 4, 5))
    assert many.shape == (3, 2, 4, 5) and torch.equal(noise([1], (2, 4, 5))[0], many[1])
    assert abs(float(many.mean())) < 0.3 and 0.8 < float(many.std()) < 1.2
    assert noise([], (2, 4, 5)).shape == (0, 2, 4, 5)
    before = torch.random.get_rng_state()
    noise([7], (1, 2, 3))
    assert torch.equal(before, torch.random.get_rng_state())
