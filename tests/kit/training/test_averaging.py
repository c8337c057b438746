"""The decay of averaged weights is smaller at the start of a run, and they are on the device of the run."""

from types import SimpleNamespace

import lightning as L
import pytest
import torch

from kit.training.averaging import EMA, average


def averages(decay: float, steps: int) -> list[float]:
    """Return the averages of a weight that is n after n steps."""
    averaged, values = [torch.zeros(1)], []
    for step in range(steps):
        if step:  # torch takes the first weights as they are
            average(decay, averaged, [torch.full((1,), float(step))], torch.tensor(step))
        values.append(averaged[0].item())
    return values


def test_short_run_forgets_its_first_weights():
    found, expected = averages(0.998, 20), 0.0
    for step in range(1, 20):
        expected += (1 - (1 + step) / (10 + step)) * (step - expected)
    assert found[-1] == pytest.approx(expected) and expected > 10


def test_long_run_has_the_given_decay():
    found = averages(0.5, 20)
    assert found[-1] == pytest.approx(found[-2] + 0.5 * (19 - found[-2]))


def test_averages_are_on_the_device_to_which_the_module_will_be_moved():
    module = L.LightningModule()
    module.weight = torch.nn.Parameter(torch.ones(2))
    trainer, callback = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("meta"))), EMA()
    callback.setup(trainer, module, "fit")
    devices = {tensor.device.type for tensor in callback._average_model.state_dict().values()}
    assert devices == {"meta"} and module.weight.device.type == "cpu"
