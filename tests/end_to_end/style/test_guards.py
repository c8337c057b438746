"""What guards a run of any task holds for a style: little memory, a run that was stopped."""

from functools import partial
from pathlib import Path

import pytest
import torch
from in_parts import same_gradient

from kit.samples import ClassifierFeatures
from project.style import StyleNet, Stylizer

CONFIGS = Path(__file__).parents[3] / "configs"


def stylizer(tiny) -> Stylizer:
    tiny.photos(Path("photos"), 1)
    tiny.classifier(Path("run.ckpt"))
    torch.manual_seed(0)
    return Stylizer(partial(StyleNet, widths=[4, 6]), "photos/0.png", ClassifierFeatures("run.ckpt"), 3)


def test_gradient_of_parts_equals_that_of_the_batch(tiny):
    same_gradient(stylizer(tiny))


@pytest.mark.slow
def test_resumed_run_has_the_same_weights_with_any_number_of_workers(fit, tiny):
    tiny.photos(Path("photos"), 20)
    tiny.classifier(Path("run.ckpt"))
    words = ["--config", str(CONFIGS / "style.yaml"), "--data.root", "photos", "--data.image_size",
             "[24, 20]", "--model.style", "photos/0.png", "--model.features.run", "run.ckpt", "--model.net.widths",
             "[4, 6]", "--model.schedule", "null", "--trainer.limit_train_batches", "3"]  # fmt: skip
    whole = fit(*words, "--trainer.max_epochs", "2", "--data.num_workers", "0", "--name", "whole")
    half = fit(*words, "--trainer.max_epochs", "1", "--data.num_workers", "2", "--name", "half")
    fit("--resume", str(half), "--trainer.max_epochs", "2")
    one, other = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (whole, half))
    assert one["global_step"] == other["global_step"] == 6
    assert all(torch.equal(value, other["state_dict"][key]) for key, value in one["state_dict"].items())
