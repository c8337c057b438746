import pytest
import torch

from kit.samples.judge import Judge, train_judge

CPU = torch.device("cpu")


def shades(count: int = 120) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noise around three shades, which are the classes."""
    labels = torch.arange(count) % 3
    noise = torch.randint(0, 60, (count, 2, 8, 9), generator=torch.Generator().manual_seed(0))
    return (noise + 80 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels


def test_judge_is_accurate_and_depends_on_its_arguments_only(capsys, monkeypatch):
    monkeypatch.setattr("kit.samples.judge.MIN_STEPS", 50)
    images, labels = shades()
    before = torch.random.get_rng_state()
    judge = train_judge(images, labels, 3, CPU)
    assert "120 images" in capsys.readouterr().out
    assert torch.equal(before, torch.random.get_rng_state())
    features, predicted = judge.classify(images)
    assert features.shape == (120, 128) and features.dtype == torch.double
    assert torch.equal(predicted, labels)
    assert not judge.training and not any(parameter.requires_grad for parameter in judge.parameters())
    torch.manual_seed(7)
    assert torch.equal(train_judge(images, labels, 3, CPU).classify(images)[0], features)


@pytest.mark.parametrize("size", [(8, 9), (33, 20), (70, 90)])
def test_logits_have_a_column_for_each_class(size):
    judge = Judge(4, 3, size).eval()
    assert judge(torch.randn(2, 3, *size)).shape == (2, 4)
