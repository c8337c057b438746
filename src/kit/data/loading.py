"""Make batches: which samples come in which batch, how they are augmented, and how many processes do it.

The order of the samples and their augmentation are functions of seed, epoch and rank. So there is no state to save, and
neither the number of workers nor a restart changes a batch.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.transforms import v2

from kit.data.samples import Batch, Samples, Tensors
from kit.ground.errors import UserError, one_line
from kit.ground.threads import available_cores


@dataclass(eq=False)
class BatchSampler(Sampler[list[tuple[int, int]]]):
    """Yield batches of `(index, seed)`, where the seed is for the sample's augmentation.

    In training, samples are shuffled, and the last batch is dropped if it is incomplete (unless it is the only one), so
    that every process takes as many steps. In evaluation, samples come in order, each exactly once over all processes.
    A process without samples yields one empty batch, so that it takes part in what the processes do together.

    Args:
        size: the number of samples N.
        batch_size: the number of samples in a batch of one process.
        epoch: returns the current epoch. It is called at each pass, so that it is right in a resumed run too.
        start: returns the first batch of a pass, as a resumed run goes on in the middle of an epoch.
        rank, world: the index of this process, and the number of processes.
        train: whether the batches are for training.
        weights: Float[N] or None; samples are drawn with replacement, in proportion to their weights.
        indices: Long[N] or None; in evaluation, the samples' indices in their split, if they are not the whole split.
    """

    size: int
    batch_size: int
    seed: int = 0
    epoch: Callable[[], int] = lambda: 0
    start: Callable[[], int] = lambda: 0
    rank: int = 0
    world: int = 1
    train: bool = False
    weights: Tensor | None = None
    indices: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of batches of this process."""
        if self.train:
            return max(1, self.size // self.world // self.batch_size)
        samples = len(range(self.rank, self.size, self.world))
        return max(1, -(-samples // self.batch_size))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        if not self.train:
            indices = torch.arange(self.size) if self.indices is None else self.indices
            keys = [(index, 0) for index in indices[self.rank :: self.world].tolist()]
        else:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch())
            if self.weights is None:
                order = torch.randperm(self.size, generator=generator)
            else:
                order = torch.multinomial(self.weights, self.size, replacement=True, generator=generator)
            seeds = torch.randint(2**62, (self.size,), generator=generator)
            # If there are fewer samples than processes, the order repeats, since each process must take its step.
            mine = torch.arange(self.rank, max(self.size, self.world), self.world) % self.size
            keys = list(zip(order[mine].tolist(), seeds[mine].tolist(), strict=True))
        for batch in range(self.start(), len(self)):
            yield keys[batch * self.batch_size : (batch + 1) * self.batch_size]


@dataclass(eq=False)
class Split(Dataset):
    """The samples of a split as a `DataLoader` fetches them: one batch of `(index, seed)` at a time.

    A v2 transform draws its random numbers once for a whole tensor, so it is called once for each sample. It draws from
    torch's global generator, which is seeded for each sample and restored afterwards.

    Args:
        augment: transforms of a sample's image and target.
        sample: makes the image and the target for augmentation, from a sample's pixels and its entry in
            `samples.targets`.
        collate: makes `Batch.images` and `Batch.targets` from the images and the targets of a batch.
    """

    samples: Samples
    augment: Sequence[v2.Transform]
    sample: Callable[[Tensor, Any], tuple[Tensor, Any]]
    collate: Callable[[Sequence[Tensor], Sequence[Any]], tuple[Tensor, Any]]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, keys: list[tuple[int, int]]) -> Batch:
        fetched = keys or [(0, 0)]  # an empty batch is made from one sample, so that it has the right shape
        indices = [index for index, _ in fetched]
        pixels = self.samples.fetch(indices)
        samples = [self.sample(p, self.samples.targets[i]) for p, i in zip(pixels, indices, strict=True)]
        if self.augment:
            with torch.random.fork_rng(devices=[]):
                samples = [self._augmented(*one, seed) for one, (_, seed) in zip(samples, fetched, strict=True)]
        images, targets = self.collate(*zip(*samples, strict=True))
        return Batch(images[: len(keys)], targets[: len(keys)], torch.tensor(indices)[: len(keys)])

    def _augmented(self, image: Tensor, target: Any, seed: int) -> tuple[Tensor, Any]:
        torch.default_generator.manual_seed(seed)
        for transform in self.augment:
            if isinstance(target, int):  # v2 would return a label unchanged, and take six times as long
                image = transform(image)
            else:
                image, target = transform(image, target)
        return image, target

    def augmented_size(self) -> tuple[int, int]:
        """Return the height and width of an image after augmentation.

        Raises:
            UserError: the augmentation cannot be applied to images of the samples' size.
        """
        blank = Tensors(self.samples.targets[:1], torch.zeros(1, *self.samples.shape, dtype=torch.uint8))
        try:
            height, width = replace(self, samples=blank).__getitems__([(0, 0)]).images.shape[-2:]
        except UserError:
            raise
        except Exception as error:  # a transform of the user may raise any exception
            height, width = self.samples.shape[1:]
            advice = "RandomShift and RandomZoomIn of kit.data crop without changing an image's size"
            problem = f"data.augment cannot be applied to images of data.image_size, {height}x{width}"
            raise UserError(f"{problem} ({type(error).__name__}: {one_line(error)}); {advice}") from error
        return height, width


def keep_batch(batch: Any) -> Any:
    """Return the batch as it is: `Split.__getitems__` has collated it."""
    return batch


def balancing_weights(strata: Tensor) -> Tensor:
    """Return the weight of each sample, Float[N], with which all strata are drawn equally often."""
    return 1.0 / torch.bincount(strata)[strata]


def stack(images: Sequence[Tensor]) -> Tensor:
    """Stack images [C H W] to [B C H W], with channels last in memory, which suits decoding and convolutions."""
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


def default_num_workers(trainer: L.Trainer | None, samples: Samples) -> int:
    """Return how many processes should load the samples: one for each core but one, and at most 16.

    It is 0 if the images are in memory and the processor trains, since workers would only take cores from training. The
    processes of a node share its cores.
    """
    processes = 1 if trainer is None else max(1, trainer.num_devices)
    trains_on_cpu = trainer is None or trainer.strategy.root_device.type == "cpu"
    if isinstance(samples, Tensors) and trains_on_cpu:
        return 0
    return min(16, max(0, available_cores() // processes - 1))


def ignore_signals(_: int) -> None:
    """Make a worker process ignore the signals that stop a run, as the `worker_init_fn` of a `DataLoader`.

    Signals often go to all processes of a run, but its last steps still need images. Workers end with their loader. A
    second SIGTERM ends a worker, in case the loader never does.
    """
    if os.name == "posix":
        for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
