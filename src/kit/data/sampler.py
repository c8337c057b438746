"""Which samples come in which batch: a function of seed, epoch and rank, with nothing to save and nothing to lose."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler


class BatchSampler(Sampler[list[tuple[int, int]]]):
    """Yields batches of `(index, seed)`; the seed is for the sample's augmentation.

    Args:
        size: the number of samples N.
        batch_size: per process.
        epoch: asked anew at each pass, so that a resumed run, and workers that prefetch, are at the right one.
        start: the batch to begin with, asked at each pass too: a resumed run goes on in the middle of an epoch.
        rank, world: this process and how many there are.
        train: shuffled, and the last, incomplete batch dropped (unless it is the only one), so that every process
            takes as many steps. Otherwise in order and each sample exactly once over all processes; a process that
            gets none yields one empty batch, so that it takes part in what the others do together.
        weights: Float[N] or None; samples are drawn with replacement in proportion to these.
        places: Long[N] or None; in evaluation, where the N samples stand in their split, if they are not all of it.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: Callable[[], int] = lambda: 0,
        start: Callable[[], int] = lambda: 0,
        rank: int = 0,
        world: int = 1,
        train: bool = False,
        weights: Tensor | None = None,
        places: Tensor | None = None,
    ) -> None:
        self.size, self.batch_size, self.seed, self.epoch, self.start = size, batch_size, seed, epoch, start
        self.rank, self.world, self.train, self.weights = rank, world, train, weights
        self.places = torch.arange(size) if places is None else places

    def __len__(self) -> int:
        if self.train:
            return max(1, self.size // self.world // self.batch_size)
        return max(1, -(-self._own() // self.batch_size))

    def _own(self) -> int:
        return len(range(self.rank, self.size, self.world))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        if not self.train:
            keys = [(index, 0) for index in self.places[self.rank :: self.world].tolist()]
        else:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch())
            if self.weights is None:
                order = torch.randperm(self.size, generator=generator)
            else:
                order = torch.multinomial(self.weights, self.size, replacement=True, generator=generator)
            seeds = torch.randint(2**62, (self.size,), generator=generator)
            # Fewer samples than processes: the order starts again, since each process must take its step.
            mine = torch.arange(self.rank, max(self.size, self.world), self.world) % self.size
            keys = list(zip(order[mine].tolist(), seeds[mine].tolist(), strict=True))
        for batch in range(self.start(), len(self)):
            yield keys[batch * self.batch_size : (batch + 1) * self.batch_size]
