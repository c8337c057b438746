import torch

from kit.training.schedule import WarmupCosine
from project.cnn import ConvBlock, Trunk


def test_shapes_are_halved_and_rounded_up():
    maps = Trunk(3, widths=[4, 6, 8], depth=1, stem_stride=2)(torch.zeros(2, 3, 21, 34))
    assert [tuple(m.shape) for m in maps] == [(2, 4, 11, 17), (2, 6, 6, 9), (2, 8, 3, 5)]


def test_number_of_parameters():
    assert sum(p.numel() for p in ConvBlock(3, 5).parameters()) == 9 * 3 * 5 + 2 * 5
    wanted = (9 * 3 * 4 + 8) + (9 * 4 * 4 + 8) + (9 * 4 * 6 + 12) + (9 * 6 * 6 + 12)
    assert sum(p.numel() for p in Trunk(3, widths=[4, 6], depth=2).parameters()) == wanted


def test_depth_of_each_level():
    levels = Trunk(3, widths=[4, 6, 8], depth=[1, 2, 3]).levels
    assert [len(level) for level in levels] == [1, 2, 3]


def test_warmup_then_cosine():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = WarmupCosine(optimizer, 100, warmup=0.1, final=0.25)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:10] == sorted(rates[:10]) and rates[0] > 0
    assert rates[10] == 2.0 == max(rates)
    assert abs(rates[55] - 2.0 * (0.25 + 0.75 / 2)) < 1e-9  # half way down the cosine
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert abs(optimizer.param_groups[0]["lr"] - 0.5) < 1e-9
