"""A tiny task on a device with little memory: torch's error is raised where the allocator would raise it."""

import weakref

import torch
from tiny_task import Judge
from torch import nn
from torch.nn import functional as F

SAID = (
    "CUDA out of memory. Tried to allocate 3.00 GiB. GPU 0 has a total capacity of 16.00 GiB of which 1.00 GiB is free."
    " Of the allocated memory 14.50 GiB is allocated by PyTorch, and 0 bytes is reserved by PyTorch but unallocated."
)


class Activations:
    """What a forward pass keeps for its backward pass."""


class Kept(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, activations):
        ctx.activations = activations
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


class Ceiling(nn.Module):
    """Hands on as many samples as fit: in the forward pass, in the backward pass, in evaluation; of process `rank`.

    failures: how often memory ran out. kept: the most forward passes whose activations lay in memory at a time.
    """

    def __init__(self, forward: int, backward: int, evaluation: int, rank: int | None) -> None:
        super().__init__()
        self.fits, self.rank, self.failures = {"forward": forward, "backward": backward, "eval": evaluation}, rank, 0
        self.kept, self.in_memory = 0, weakref.WeakSet()

    def forward(self, x):
        if x.requires_grad:
            activations = Activations()
            self.in_memory.add(activations)
            self.kept = max(self.kept, len(self.in_memory))
            x = Kept.apply(x, activations)
        self.allocate(len(x), "forward" if self.training else "eval")
        if x.requires_grad:
            x.register_hook(lambda gradient: self.allocate(len(gradient), "backward"))
        return x

    def allocate(self, samples, during):
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        if samples > self.fits[during] and self.rank in (None, rank):
            self.failures += 1
            raise torch.OutOfMemoryError(SAID)


class Squeezed(Judge):
    """Two layers, between which memory runs out. forward, backward, evaluation: the samples that fit."""

    def __init__(
        self,
        forward: int = 99,
        backward: int = 99,
        evaluation: int = 99,
        rank: int | None = None,
        lr: float = 0.1,
        **data,
    ):
        super().__init__(lr=lr, **data)
        self.save_hyperparameters(logger=False)
        self.ceiling = Ceiling(forward, backward, evaluation, rank)
        self.net = nn.Sequential(nn.Linear(3 * 6 * 8, 5), self.ceiling, nn.Linear(5, 3))


class Terms(Squeezed):
    """Weights of its own for each class, a second loss, and one class that does not count."""

    def training_step(self, batch, batch_idx):
        sums, weights = self.loss_terms(batch)
        loss = (sums / weights.clamp(min=1e-9)).sum()
        self.log("train/loss", loss, batch_size=len(batch.keys))
        return loss

    def loss_terms(self, batch):
        logits = self.net(batch.images.flatten(1))
        weights = torch.tensor([0.0, 1.0, 3.0]).to(logits)
        entropy = F.cross_entropy(logits, batch.targets, weights, reduction="sum")
        bright = batch.targets == 2
        return (
            torch.stack([entropy, logits[bright].square().sum()]),
            torch.stack([weights[batch.targets].sum(), bright.sum().to(logits)]),
        )
