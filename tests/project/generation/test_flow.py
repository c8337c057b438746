import pytest
import torch
from refused import assert_refused

from kit.samples.images import noise
from project.generation.flow import Euler, Heun, add_noise


def growth(x, time):
    """Whose solution is x times e."""
    return x


@pytest.mark.parametrize(("solver", "factor"), [(Euler(4), 1.25**4), (Heun(4), (1 + 0.25 + 0.25**2 / 2) ** 4)])
def test_solvers_on_exponential_growth(solver, factor):
    start = torch.tensor([1.0, -2.0]).view(2, 1, 1, 1, 1)
    assert torch.allclose(solver(growth, start), factor * start[:, 0])


@pytest.mark.parametrize(("kind", "order"), [(Euler, 1), (Heun, 2)])
def test_order_of_convergence(kind, order):
    start = torch.ones(1, 1, 1, 1, 1, dtype=torch.double)
    few, many = (abs(float(kind(steps)(growth, start)) - torch.e) for steps in (50, 100))
    assert few / many == pytest.approx(2**order, rel=0.05)


@pytest.mark.parametrize("solver", [Euler(1), Heun(1), Euler(3)])
def test_straight_path_needs_one_step(solver):
    """Of a single image the velocity is known exactly."""
    image, start = torch.rand(2, 3, 4, 5), torch.randn(2, 1, 3, 4, 5)
    way = image - start[:, 0]
    assert torch.allclose(solver(lambda x, t: way, start), image, atol=1e-6)


def test_times_of_the_steps():
    asked = []
    Heun(2)(lambda x, t: asked.append(t) or x, torch.ones(1, 1, 1, 1, 1))
    assert asked == [0, 0.5, 0.5, 1]


def test_add_noise_raises_the_noise_level_by_churn():
    x, time = add_noise(torch.zeros(1, 1, 1, 1), 0.5, 1.0, torch.ones(1, 1, 1, 1))
    assert time == pytest.approx(1 / 3)  # there, noise is twice as large as the image; before, it was as large
    assert float(x) == pytest.approx(((2 / 3) ** 2 - (1 / 3) ** 2) ** 0.5)


def test_add_noise_keeps_the_distribution():
    """Of an image of 3 and noise: what comes out has the mean and the spread that belong to its time."""
    noises = torch.randn(2, 100_000, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    x, time = add_noise(0.4 * 3 + 0.6 * noises[0], 0.4, 0.3, noises[1])
    assert float(x.mean()) == pytest.approx(time * 3, abs=0.01)
    assert float(x.std()) == pytest.approx(1 - time, rel=0.01)


@pytest.mark.parametrize("kind", [Euler, Heun])
def test_churn_corrects_errors(kind):
    """The velocity to images that are normally distributed, with an error in the first half of the way alone."""
    spread = 0.5

    def velocity(x, time):
        exact = x * (time * spread**2 - (1 - time)) / (time**2 * spread**2 + (1 - time) ** 2)
        return exact + (0.5 if time < 0.3 else 0)

    def error(solver):
        noises = torch.randn(20_000, solver.num_noises, 1, 1, 1, generator=torch.Generator().manual_seed(0))
        return abs(float(solver(velocity, noises).mean()))

    assert error(kind(40, 0.4)) < 0.8 * error(kind(40))


@pytest.mark.parametrize("churn", [0.0, 0.4])
def test_solver_uses_num_noises(churn):
    solver = Euler(5, churn)
    noises = torch.randn(2, 5, 1, 2, 3)
    assert solver.num_noises == (5 if churn else 1)
    assert solver(growth, noises[:, : solver.num_noises]).shape == (2, 1, 2, 3)


def test_invalid_steps_and_churn_are_refused():
    assert_refused(Euler, steps=0, churn=-0.1)
    assert_refused(Heun, steps="1.5", churn="nan")


def test_noise_depends_on_its_seed_only():
    many = noise([3, 1, 2], (2, 4, 5))
    assert many.shape == (3, 2, 4, 5) and torch.equal(noise([1], (2, 4, 5))[0], many[1])
    assert abs(float(many.mean())) < 0.3 and 0.8 < float(many.std()) < 1.2
    assert noise([], (2, 4, 5)).shape == (0, 2, 4, 5)
    before = torch.random.get_rng_state()
    noise([7], (1, 2, 3))
    assert torch.equal(before, torch.random.get_rng_state())
