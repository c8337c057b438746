"""The gradient of a batch in parts is that of the whole."""

from pathlib import Path

import pytest
import torch
import yaml
from fixtures import tiny_of
from in_parts import TRAINER
from torch import nn

from kit.cli import command_line as cli
from kit.safeguards.memory.micro_batches import add_up, step_in_parts

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

# The config of each task whose losses add up. One is quick.
OWN = sorted((file for file in CONFIGS.glob("*.yaml") if "_" not in file.stem), key=lambda file: file.stem)
OWN = [file for file in OWN if file.stem != "pretraining"]  # its loss compares the images of a batch
OWN = [pytest.param(file, marks=pytest.mark.slow if place else (), id=file.stem) for place, file in enumerate(OWN)]


def gradients(loss, parameters) -> torch.Tensor:
    found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])


def task_and_batch(config: Path):
    """The task of a config, in double precision and with its batch normalisation fixed, and a batch of its data."""
    folder = Path("data")
    folder.mkdir()
    few = tiny_of(config.stem.split("_")[0]).arguments(yaml.safe_load(config.read_text()), folder)
    run = cli.CLI(["--config", str(config), *few, "--data.batch_size", "5", "--trainer.logger", "false"])
    run.datamodule.setup("fit")
    batch = next(iter(run.datamodule.train_dataloader()))
    batch = run.datamodule.on_after_batch_transfer(batch, 0)
    task = run.model.double().train()
    for module in task.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    task.log = lambda *_, **__: None
    return task, batch._replace(images=batch.images.double())


@pytest.mark.parametrize("config", OWN)
def test_gradient_of_each_task_equals_that_of_the_batch(config):
    task, batch = task_and_batch(config)
    parameters = list(task.parameters())
    torch.manual_seed(0)  # for a task that draws numbers before its loss is computed
    loss = task.training_step(batch, 0)
    whole = gradients(loss, parameters)
    for parts in (2, 5):
        torch.manual_seed(0)
        in_parts = step_in_parts(TRAINER, task, task.training_step, (batch, 0), parts, parameters)
        assert torch.allclose(loss, in_parts, rtol=1e-12)
        assert (gradients(in_parts, parameters) - whole).norm() <= 1e-10 * whole.norm()


class Two(nn.Module):
    """Two terms of a linear net; the second counts positive samples alone, and a sample in which nothing counts."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.unused = nn.Linear(4, 3).double(), nn.Parameter(torch.zeros(2))

    def terms(self, batch):
        (x,) = batch
        y, some = self.net(x), x[:, 0] > 0
        return torch.stack([y.square().sum(), y[some].exp().sum()]), torch.stack([x[:, 1].abs().sum(), some.sum()])


@pytest.mark.parametrize("scaler", [None, torch.amp.GradScaler("cpu", init_scale=2.0**12)])
def test_terms_are_divided_by_the_sum_over_all_parts(scaler):
    module, x = Two(), torch.randn(7, 4, dtype=torch.double)
    x[:3, 0] = -1  # of the first parts nothing counts
    parameters = list(module.parameters())
    results = [module.terms([x]), add_up(module.terms, [x], 5, parameters, scaler)]
    (sums, weights), (own_sums, own_weights) = results
    assert torch.allclose(sums, own_sums) and torch.allclose(weights, own_weights)
    whole, own = (gradients(3 * (s / w).sum(), parameters) for s, w in results)
    assert torch.allclose(whole, own, rtol=1e-12)
    loss = add_up(module.terms, [x], 2, parameters, None)[0].sum()
    loss.backward()
    assert module.unused.grad is None and module.net.weight.grad is not None


def test_shared_gradients_are_not_added_twice():
    first, second = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    x = torch.rand(4, 3)
    sums, _ = add_up(lambda b: ((b[0] + first + second).sum().view(1), b[0].new_ones(1)), [x], 4, [first, second], None)
    sums.backward()
    assert torch.equal(first.grad, torch.full((3,), 4.0)) and torch.equal(second.grad, first.grad)


def test_small_gradients_do_not_vanish_in_16_bits():
    """2**-30 is 0 in 16 bits."""
    weight, x = nn.Parameter(torch.ones(())), torch.ones(4, 2)

    def terms(batch):
        (part,) = batch
        return (weight.half() * part.half()).float().sum().view(1) * 2**-30, torch.tensor([float(len(part))])

    for scaler, wanted in ((None, 0.0), (torch.amp.GradScaler("cpu", init_scale=2.0**16), 2 * 2**-30)):
        sums, weights = add_up(terms, [x], 2, [weight], scaler)
        assert torch.autograd.grad((sums / weights).sum(), weight)[0] == wanted
