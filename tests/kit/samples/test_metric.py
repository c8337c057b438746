import pytest
import torch

from kit.samples.metric import Seen, frechet_distance, nearest, noise_images, normal_images


def exactly(mean: torch.Tensor, spread: torch.Tensor, count: int) -> torch.Tensor:
    """Points whose mean and standard deviations along the axes are exactly these, and whose covariances are 0."""
    size = len(mean)
    points = torch.cat([torch.eye(size), -torch.eye(size)]).double().repeat(count, 1)
    return mean + points / points.std(0) * spread


def test_the_distance_of_normal_distributions():
    mean, spread = torch.tensor([1.0, -2, 0.5]).double(), torch.tensor([1.0, 2, 0.5]).double()
    one = exactly(mean, spread, 4)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(one, one + 3) == pytest.approx(27)
    other = exactly(mean + 1, torch.tensor([4.0, 1, 0.5]).double(), 7)
    assert frechet_distance(one, other) == pytest.approx(3 + 9 + 1)
    assert frechet_distance(other, one) == pytest.approx(13)
    turned = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double()).Q
    assert frechet_distance(one @ turned, other @ turned) == pytest.approx(13)


def test_fewer_points_than_dimensions():
    few = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)).double()
    assert frechet_distance(few, few + 1) == pytest.approx(40)


def test_what_processes_exchange_lies_on_their_device(monkeypatch):
    seen, devices = Seen(), []

    def gathered(mine: torch.Tensor, group: object = None) -> list[torch.Tensor]:
        devices.append(mine.device.type)
        return [torch.ones(2, *mine.shape[1:], dtype=mine.dtype)]

    monkeypatch.setattr("kit.samples.metric.gather_all_tensors", gathered)
    monkeypatch.setattr(Seen, "device", torch.device("meta"))  # as if it were a GPU
    monkeypatch.setattr(seen, "distributed_available_fn", lambda: True)
    seen.update(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.zeros(1).long(), torch.zeros(1).long())
    images, classes = seen.compute()
    assert devices == ["meta"] * 3 and images.shape == (2, 1, 2, 2) and classes.tolist() == [1, 1]


def test_the_nearest_image():
    known = torch.randint(0, 256, (20, 2, 3, 4), dtype=torch.uint8)
    wanted = known[[7, 3]].clone()
    wanted[1, 0, 0, 0] ^= 255
    places, distances = nearest(wanted, known)
    assert places.tolist() == [7, 3]
    off = abs(int(wanted[1, 0, 0, 0]) - int(known[3, 0, 0, 0])) / 255
    assert distances.tolist() == pytest.approx([0, (off**2 / 24) ** 0.5], rel=1e-4)


def test_images_whose_pixels_are_drawn_alone():
    images = torch.zeros(40, 1, 2, 3, dtype=torch.uint8)
    images[::2] = 60  # mean 30, spread 30
    images[20:] += 150
    classes = torch.arange(40) // 20
    made = normal_images(images, classes, torch.arange(2).repeat(3000)).float()
    for k, mean in enumerate((30, 180)):
        own = made[k::2]
        assert own.shape == (3000, 1, 2, 3)
        assert torch.allclose(own.mean(0), torch.full((1, 2, 3), mean).float(), atol=3)
    assert float(made[1::2].std(0).mean()) == pytest.approx(30, abs=1.5)
    assert noise_images(3, images.shape[1:]).shape == (3, 1, 2, 3)


def test_images_are_in_the_order_of_their_keys():
    seen = Seen()
    images = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1)
    for keys in (torch.tensor([4, 1]), torch.tensor([5, 0, 3]), torch.tensor([], dtype=torch.long), torch.tensor([2])):
        seen.update(images[keys], 10 * keys, keys)
    found, classes = seen.compute()
    assert found.flatten().tolist() == [0, 1, 2, 3, 4, 5] and classes.tolist() == [0, 10, 20, 30, 40, 50]
