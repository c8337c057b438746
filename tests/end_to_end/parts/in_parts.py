"""A training step over parts of a batch, against the step over the whole batch."""

from types import SimpleNamespace

import pytest
import torch

from kit.data import Batch
from kit.safeguards.memory.micro_batches import step_in_parts
from kit.task import Task

TRAINER = SimpleNamespace(precision_plugin=None)  # all of a trainer that a step in parts asks for


def same_gradient(task: Task) -> None:
    """Assert that the gradient of a batch of images in parts is that of the whole batch."""
    task = task.double()
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, 0, 0.2)
    task.log = lambda *_, **__: None
    given = Batch(torch.rand(5, 3, 16, 12).double() * 2 - 1, torch.arange(5) % 3, torch.arange(5))
    found = []
    for parts in (1, 2, 3):
        torch.manual_seed(7)
        task.zero_grad()
        if parts == 1:
            loss = task.training_step(given, 0)
        else:
            loss = step_in_parts(TRAINER, task, task.training_step, (given, 0), parts, list(task.parameters()))
        loss.backward()
        gradient = torch.cat([parameter.grad.flatten() for parameter in task.parameters()])
        found.append((loss.item(), gradient))
    assert found[0][1].norm() > 1e-3
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-9)
        assert torch.allclose(gradient, found[0][1], rtol=1e-6, atol=1e-9)
