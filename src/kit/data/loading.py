"""Choose the samples of each batch, augment and collate them, and choose the number of worker processes.

The order of the samples and their augmentation depend only on seed, epoch, rank and the number of processes. So
checkpoints need no loader state, and neither the number of workers nor a restart changes a batch.
"""

import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.reduction import ForkingPickler
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor
from torch.multiprocessing.reductions import reduce_storage
from torch.utils.data import Dataset, Sampler
from torchvision.transforms import v2

from kit.data.samples import Batch, Samples, Tensors
from kit.ground.errors import one_line
from kit.ground.threads import available_cores

WORKER_ERRORS = ConnectionError, EOFError, FileNotFoundError  # reading from a process that has ended raises these


@dataclass(eq=False)
class BatchSampler(Sampler[list[tuple[int, int]]]):
    """Yield batches of `(index, seed)`: a sample's index in its split, and the seed of its augmentation.

    In training, samples are shuffled, and an incomplete last batch is dropped unless it is the only one, so that all
    processes take equally many steps. In evaluation, samples are in order, and each is in one batch of one process. A
    process without samples yields one empty batch, since it must take part in collective operations.

    Args:
        size: the number of samples N.
        batch_size: the number of samples in a batch of one process.
        epoch: returns the current epoch. It is called at the start of each epoch.
        start: returns the number of batches to skip, for a run that resumes in the middle of an epoch.
        rank, world: the index of this process, and the number of processes.
        train: whether the batches are for training.
        weights: Float[N]; samples are drawn with replacement, in proportion to their weights. None shuffles them.
        indices: Long[N], the samples to evaluate; None evaluates the whole split.
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
            pairs = [(index, 0) for index in indices[self.rank :: self.world].tolist()]
        else:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch())
            if self.weights is None:
                order = torch.randperm(self.size, generator=generator)
            else:
                order = torch.multinomial(self.weights, self.size, replacement=True, generator=generator)
            seeds = torch.randint(2**62, (self.size,), generator=generator)
            # With fewer samples than processes, some samples repeat, since each process must take a step.
            positions = torch.arange(self.rank, max(self.size, self.world), self.world) % self.size
            pairs = list(zip(order[positions].tolist(), seeds[positions].tolist(), strict=True))
        for batch in range(self.start(), len(self)):
            yield pairs[batch * self.batch_size : (batch + 1) * self.batch_size]


@dataclass(eq=False)
class SplitDataset(Dataset):
    """The samples of a split. A `DataLoader` fetches a whole batch from it, given the batch's list of `(index, seed)`.

    Each sample is transformed separately, since a v2 transform of a batch is the same for all its images. Transforms
    draw from torch's global generator, which is seeded for each sample and restored afterwards.

    Args:
        augment: transforms of a sample's image and target.
        make_sample, collate: the data module's methods `sample` and `collate`: see `kit.data.contents`.
    """

    samples: Samples
    augment: Sequence[v2.Transform]
    make_sample: Callable[[Tensor, Any], tuple[Tensor, Any]]
    collate: Callable[[Sequence[Tensor], Sequence[Any]], tuple[Tensor, Any]]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, pairs: list[tuple[int, int]]) -> Batch:
        fetched = pairs or [(0, 0)]  # an empty batch gets its shape from a sample
        indices = [index for index, _ in fetched]
        pixels = self.samples.fetch(indices)
        samples = [self.make_sample(p, self.samples.targets[i]) for p, i in zip(pixels, indices, strict=True)]
        if self.augment:
            with torch.random.fork_rng(devices=[]):
                samples = [self._augment(*sample, seed) for sample, (_, seed) in zip(samples, fetched, strict=True)]
        images, targets = self.collate(*zip(*samples, strict=True))
        return Batch(images[: len(pairs)], targets[: len(pairs)], torch.tensor(indices)[: len(pairs)])

    def _augment(self, image: Tensor, target: Any, seed: int) -> tuple[Tensor, Any]:
        torch.default_generator.manual_seed(seed)
        for transform in self.augment:
            if isinstance(target, int):  # v2 would return a label unchanged, but take six times as long
                image = transform(image)
            else:
                image, target = transform(image, target)
        return image, target


def keep_batch(batch: Any) -> Any:
    """Return the batch unchanged, since `SplitDataset.__getitems__` has collated it."""
    return batch


def stack(images: Sequence[Tensor]) -> Tensor:
    """Stack images [C H W] to [B C H W] with channels last in memory, the layout of decoded images."""
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


def default_num_workers(trainer: L.Trainer | None, samples: Samples) -> int:
    """Return the number of workers of this process: the cores per process on this machine, minus one, but at most 16.

    It is 0 if the images are in memory and training is on the CPU, since workers would only slow down training.
    """
    processes = 1 if trainer is None else max(1, trainer.num_devices)
    trains_on_cpu = trainer is None or trainer.strategy.root_device.type == "cpu"
    if isinstance(samples, Tensors) and trains_on_cpu:
        return 0
    return min(16, max(0, available_cores() // processes - 1))


def lost_worker(error: BaseException) -> str | None:
    """Return a message if an exception was raised because a worker has ended, or None for any other exception."""
    is_reading = any(frame.name == "_try_get_data" for frame in traceback.extract_tb(error.__traceback__))
    if not str(error).startswith("DataLoader worker (pid") and not (isinstance(error, WORKER_ERRORS) and is_reading):
        return None
    return f"a worker process has ended ({one_line(error)}); if memory ran out, use fewer: --data.num_workers N"


def usable_workers(count: int) -> int:
    """Return the number of worker processes, or 0 with a warning if the system cannot start any."""
    try:
        if count:
            torch.multiprocessing.get_context().Semaphore()  # each queue to a worker needs semaphores
    except (OSError, ImportError) as error:  # Linux keeps semaphores in /dev/shm; some systems have none
        why = f"workers need semaphores, and the system cannot create one ({one_line(error)}; is /dev/shm full?)"
        rank_zero_only(_warn_once)(f"{why}: --data.num_workers 0 is used")
        return 0
    return count


def prepare_worker(_: int) -> None:
    """Set up a worker process of a `DataLoader`: its signals, and the way in which it sends its batches."""
    ignore_signals()
    ForkingPickler.register(torch.UntypedStorage, _reduce_storage)


def _reduce_storage(storage: torch.UntypedStorage) -> tuple[Any, ...]:
    """Send a tensor's memory to the main process: in shared memory or, if this is full, through a pipe.

    Without this, torch would lose the batch, and the main process would wait for it forever.
    """
    try:
        return reduce_storage(storage)
    except RuntimeError:  # /dev/shm is full; in a container, it has 64 MB by default
        # Copy all later batches instead of trying again, since each failed attempt leaves a file in /dev/shm.
        ForkingPickler.register(torch.UntypedStorage, _copy_storage)
        return _copy_storage(storage)


def _copy_storage(storage: torch.UntypedStorage) -> tuple[Any, ...]:
    return _receive_storage, (torch.empty(0, dtype=torch.uint8).set_(storage).numpy(),)


def _receive_storage(content: np.ndarray) -> torch.UntypedStorage:
    _warn_once("/dev/shm is full, so workers send images through slower pipes (docker run --shm-size 8g helps)")
    return torch.from_numpy(content).untyped_storage()


@cache
def _warn_once(message: str) -> None:
    """Warn once in a process. Python alone would repeat the warning after each change of its filters."""
    warnings.warn(message, stacklevel=1)


def ignore_signals() -> None:
    """Ignore the signals that stop a run.

    A signal often reaches all processes of a run, but the last steps of the run still need images. Workers end with
    their loader, or at a second SIGTERM.
    """
    if os.name == "posix":
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        # The default handler would kill the worker, and torch raises an exception if a signal kills a worker.
        signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, lambda *_: os._exit(0)))
