from pathlib import Path

import pytest
import torch

from kit.checkpoints.run_folder import refuse_foreign_paths
from kit.ground.errors import UserError
from kit.samples.judge import Judge, trained

CPU = torch.device("cpu")


def shades(count: int = 120) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise around three shades, which are the classes."""
    labels = torch.arange(count) % 3
    noise = torch.randint(0, 60, (count, 2, 8, 9), generator=torch.Generator().manual_seed(0))
    return (noise + 80 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels


def test_it_is_trained_once(capsys, monkeypatch):
    monkeypatch.setattr("kit.samples.judge.LEAST", 50)
    images, labels = shades()
    before = torch.random.get_rng_state()
    judge = trained(images, labels, 3, Path("judges"), CPU)
    assert "120 images (it is kept" in capsys.readouterr().out
    assert torch.equal(before, torch.random.get_rng_state())
    features, seen = judge.look(images)
    assert features.shape == (120, 128) and features.dtype == torch.double
    assert float((seen == labels).double().mean()) == 1.0
    again = trained(images, labels, 3, Path("judges"), CPU)
    assert capsys.readouterr().out == "" and torch.equal(again.look(images)[0], features)
    assert not judge.training and not any(parameter.requires_grad for parameter in judge.parameters())


def test_for_other_images_and_when_it_is_damaged_another_is_trained(capsys, monkeypatch):
    monkeypatch.setattr("kit.samples.judge.LEAST", 2)
    images, labels = shades(30)

    def files() -> int:
        trained(images, labels, 3, Path("judges"), CPU)
        assert "on 30 images (" in capsys.readouterr().out
        return len(list(Path("judges").iterdir()))

    assert files() == 1
    next(Path("judges").iterdir()).write_bytes(b"damaged")
    assert files() == 1
    images[3, 0, 0, 0] += 1
    assert files() == 2
    labels[3] = 1
    assert files() == 3


@pytest.mark.parametrize("size", [(8, 9), (33, 20), (70, 90)])
def test_shapes(size):
    judge = Judge(4, 3, size).eval()
    assert judge(torch.randn(2, 3, *size)).shape == (2, 4)


@pytest.mark.parametrize("harm", ["nan", "zero", "no accuracy", "other accuracy"])
def test_a_judge_that_is_not_what_was_kept_is_trained_anew(capsys, monkeypatch, harm):
    monkeypatch.setattr("kit.samples.judge.LEAST", 2)
    images, labels = shades(30)
    before = trained(images, labels, 3, Path("judges"), CPU).look(images)[0]
    (file,) = Path("judges").iterdir()
    content = torch.load(file, weights_only=True)
    weights = content["weights"]
    harmed = {
        "nan": {**content, "weights": {key: value * float("nan") for key, value in weights.items()}},
        "zero": {**content, "weights": {key: value * 0 for key, value in weights.items()}},
        "no accuracy": {"weights": weights},
        "other accuracy": {**content, "accuracy": content["accuracy"] + 0.1},
    }
    torch.save(harmed[harm], file)
    capsys.readouterr()
    assert torch.equal(trained(images, labels, 3, Path("judges"), CPU).look(images)[0], before)
    assert "is damaged" in capsys.readouterr().out
    trained(images, labels, 3, Path("judges"), CPU)
    assert not capsys.readouterr().out


def test_a_foreign_folder_of_judges_is_refused():
    model = {"class_path": "project.generation.Generator", "init_args": {"judges": "elsewhere"}}
    with pytest.raises(UserError, match=r"model.judges is 'elsewhere'.*--model.judges elsewhere"):
        refuse_foreign_paths({"model": model}, [], Path("run"))
