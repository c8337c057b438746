"""The data module that every task's own stand on: splits, cache, loaders, normalisation on the device."""

import math
import sys
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import lightning as L
import torch
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Transform

from kit.data import broken
from kit.data import cache as caches
from kit.data.decode import positive
from kit.data.levels import Levels, levels_in
from kit.data.preprocessing import Preprocessing
from kit.data.sampler import BatchSampler
from kit.data.samples import Batch, Files, Samples, Split, Tensors, stack
from kit.data.splitting import stratified
from kit.data.workers import unheard
from kit.ground.errors import BrokenFiles, UserError, in_a_line
from kit.ground.threads import cores, in_threads

if TYPE_CHECKING:
    from kit.ground.faults import Fault

VAL_FRACTION = 0.1


class ImageDataModule(L.LightningDataModule):
    """Subclasses say `find_class_names()`, `find_in_channels()` and `given(split)`; the rest is here.

    Where a target is more than a class number they also say `sample`, `collate`, `strata`, `count_classes` and
    `comparable`.

    Where images are fitted into their size instead of stretched, `keep_aspect` is True.

    Args:
        batch_size: per process, in training and evaluation.
        augment: torchvision v2 transforms of a training image (uint8 [C H W]), drawn for each sample and epoch. For
            crops that follow `image_size` see `kit.data.augment`.
        cache: `ram` keeps the decoded images in memory, `disk` in one memory-mapped file below `cache_dir` that the
            next run finds again, `none` decodes them in every epoch.
        mean, std: one number a channel, for pixels from 0 to 1; computed from the training images if not given.
        balanced: draw the classes equally often in training.
        num_workers: processes that read and augment; by default as many as help (`sensible_workers`).
        seed: of the split, of the order and of the augmentation; the run's own (`seed_everything`) by default.
    """

    keep_aspect = False

    def __init__(
        self,
        batch_size: int = 64,
        augment: Sequence[Transform] = (),
        cache: Literal["none", "ram", "disk"] = "none",
        cache_dir: str = ".cache",
        mean: list[float] | None = None,
        std: list[float] | None = None,
        balanced: bool = False,
        num_workers: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise UserError(f"data.batch_size is {batch_size}, but must be at least 1")
        if num_workers is not None and num_workers < 0:
            raise UserError(f"data.num_workers is {num_workers}, but must be 0 or more")
        if std is not None and not all(value > 0 for value in std):
            raise UserError(f"data.std is {std}, but must be above 0 for each channel")
        if (mean is None) != (std is None):
            raise UserError("data.mean and data.std go together: give both, or neither to have them computed")
        # Lightning's command line hands over plain values, which a checkpoint can hold and anyone can load.
        self.save_hyperparameters(logger=False, ignore=["augment"])
        self.batch_size, self.augment, self.num_workers = batch_size, augment, num_workers
        self.cache, self.cache_dir, self.balanced, self.seed = cache, Path(cache_dir), balanced, seed
        self.mean, self.std = mean, std
        self.levels: Levels | None = None  # known after `setup`
        self._size: tuple[int, int] | None = None
        self.image_sizes: dict[str, tuple[int, int]] = {}  # the sizes that the net gets; see `_image_sizes`
        self.samples: dict[str, Samples | None] = {}  # the splits as they are used; `setup` fills it
        self.left_out: dict[str, dict[str, str]] = {}  # by split, the files that cannot be decoded, and why
        self._divided: dict[str, Samples | None] = {}  # the splits as the user divided them, until `setup` is done
        self.all_is_test = False  # the verb `test` on other data: an undivided folder is evaluated whole
        self._is_ready = self._is_alone = False  # whether `setup` is done; whether only this process runs it now
        self._class_names: list[str] | None = None
        self._in_channels: int | None = None
        self._class_counts: list[int] | None = None

    def find_class_names(self) -> list[str]:
        """The classes in the data, in the order of their numbers."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its classes are")

    def find_in_channels(self) -> int:
        """The channels of an image."""
        raise NotImplementedError(f"{type(self).__name__} does not say how many channels its images have")

    @property
    def class_names(self) -> list[str]:
        if self._class_names is None:
            self._class_names = self.find_class_names()
        return self._class_names

    @property
    def in_channels(self) -> int:
        if self._in_channels is None:
            self._in_channels = self.find_in_channels()
        return self._in_channels

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def class_counts(self) -> list[int]:
        """How often each class occurs in training (before a validation part is split off): see `count_classes`."""
        if self._class_counts is None:
            train = self.usable("train")
            if train is None:
                raise UserError(f"there are no training images for {type(self).__name__}")
            self._class_counts = self.count_classes(train)
        return self._class_counts

    @property
    def most_objects(self) -> int:
        """The largest number of objects in a training image: see `count_most`."""
        train = self._given("train")
        return 0 if train is None else self.count_most(train)

    def given(self, split: str) -> Samples | None:
        """The samples of "train", "val" or "test" as the user divided them; None if there is no such split."""
        raise NotImplementedError(f"{type(self).__name__} does not say where its samples are")

    def count_classes(self, samples: Samples) -> list[int]:
        """Return how often each class occurs: in how many images, boxes or pixels.

        Targets that are no class numbers count for every class.
        """
        if not _are_class_numbers(samples.targets):
            return [len(samples)] * self.num_classes
        return torch.bincount(samples.targets, minlength=self.num_classes).tolist()

    def count_most(self, samples: Samples) -> int:
        """Return the number of objects in the image that has the most; 0 if targets are not objects."""
        return 0

    def strata(self, samples: Samples) -> Tensor:
        """Return what a split, and balanced sampling, should have alike on both sides: Long[N].

        It is the same for all samples where targets are no class numbers.
        """
        return samples.targets if _are_class_numbers(samples.targets) else torch.zeros(len(samples), dtype=torch.long)

    def annotation_faults(self) -> Iterable["Fault"]:
        """What is wrong with the annotations, of all splits: for the verb `check`; reading them raises nothing then."""
        return ()

    @staticmethod
    def sample(pixels: Tensor, target: Any) -> tuple[Tensor, Any]:
        """The image and the target that augmentation gets, of uint8 [C H W] and an entry of `samples.targets`."""
        return pixels, target if isinstance(target, Tensor) and target.ndim else int(target)

    @staticmethod
    def collate(images: Sequence[Tensor], targets: Sequence[Any]) -> tuple[Tensor, Any]:
        """A batch's images, uint8 [B C H W], and its targets."""
        return stack(images), torch.stack(list(targets)) if isinstance(targets[0], Tensor) else torch.tensor(targets)

    @staticmethod
    def comparable(samples: Samples, index: int) -> Hashable:
        """What is equal for two samples of one image that are annotated alike, and else differs; None: not known."""
        return None

    def _given(self, split: str) -> Samples | None:
        positive(getattr(self, "image_size", None), "data.image_size")
        if split not in self._divided:
            self._divided[split] = self.given(split)
        return self._divided[split]

    def usable(self, split: str) -> Samples | None:
        """Return the samples of a split as the user divided them, without those whose files cannot be decoded.

        The first call decodes every file to find them, and names them: see `kit.data.broken`. If `left_out`
        has the split already, that decides.

        Raises:
            BrokenFiles: too many cannot be decoded.
            UnreachableFiles: the system cannot read a file.
        """
        samples = self._given(split)
        if not isinstance(samples, Files):
            return samples
        if split not in self.left_out:
            damage = broken.find_damage(samples, self.cache_dir, f"{split} images")
            broken.stop_if_many(split, damage.broken, len(samples))
            for message in broken.warnings_about(split, damage, len(samples)):
                rank_zero_only(print)(f"warning: {message}", file=sys.stderr, flush=True)
            self.left_out[split] = damage.broken
        left_out = self.left_out[split]
        if not left_out:
            return samples
        return samples.subset(torch.tensor([i for i in range(len(samples)) if samples.file(i) not in left_out]))

    def division(self) -> dict[str, Samples]:
        """The splits as the user divided them, in the order train, val, test."""
        given = {split: self._given(split) for split in ("train", "val", "test")}
        return {split: samples for split, samples in given.items() if samples is not None}

    @cached_property
    def fingerprint(self) -> dict[str, dict[str, int]]:
        """For each split, a few numbers that tell whether the data are still the same."""
        usable = {split: self.usable(split) for split in ("train", "val", "test")}
        return {split: samples.fingerprint() for split, samples in usable.items() if samples is not None}

    def prepare_data(self) -> None:
        """Of the processes on a machine one fills the cache on disk, before the others look for it."""
        if self.cache == "disk":
            self._is_alone = True
            self.setup(TrainerFn(self.trainer.state.fn).value if self.trainer else "fit")
            self._is_alone = False

    def setup(self, stage: str) -> None:
        """Split off a tenth of train for validation if there is none, fill the cache, compute mean and std; once.

        Raises:
            BrokenFiles: the processes leave out different files.
        """
        if not self._is_ready:
            self._set_up(stage)
            self._is_ready = True
        if self.trainer is not None and not self._is_alone and torch.distributed.is_initialized():
            self._require_agreement(self.trainer.strategy)

    def _require_agreement(self, strategy: Strategy) -> None:
        files = {split: sorted(files) for split, files in self.left_out.items()}
        agrees = strategy.broadcast(files) == files
        if not strategy.reduce_boolean_decision(agrees, all=True):
            raise BrokenFiles("the processes leave out different files; give all machines the same data")

    def _set_up(self, stage: str) -> None:
        if stage == "fit":
            _ = self.fingerprint  # of the data as they were given, before they are divided and cached
        val, test = self.usable("val"), self.usable("test")
        not_wanted = stage == "test" and self.mean is not None and test is not None
        train = None if not_wanted else self.usable("train")
        if self.all_is_test and val is None and test is None:
            train, test = None, train
        elif val is None and train is not None:
            larger, smaller = stratified(self.strata(train), VAL_FRACTION, self.seed, train.groups)
            train, val = train.subset(larger), train.subset(smaller)
        parts = {"train": train if stage == "fit" or self.mean is None else None, "val": val, "test": test}
        self._set_levels([samples for samples in parts.values() if isinstance(samples, Files)])
        for split, samples in parts.items():
            self.samples[split] = self._cached(samples, split) if samples is not None and len(samples) else None
        if self.mean is None or self.std is None:
            self.mean, self.std = mean_and_std(self._present("train"), self.sample)
        first = next((samples for samples in self.samples.values() if samples is not None), None)
        self._size = first.shape[1:] if first is not None and first.one_size else None
        _ = self.preprocessing  # says what does not fit
        self._divided.clear()  # `samples` may hold copies, so this frees memory
        train = self.samples["train"]
        if stage == "fit" and train is not None and train.one_size:
            self.image_sizes = self._image_sizes(train)

    def _set_levels(self, splits: Sequence[Files]) -> None:
        """Give all splits the levels of a checkpoint, or else of the first split, which is train if there is one."""
        if splits and self.levels is None:
            self.levels = levels_in(splits[0].paths)
            if self.levels is not None:
                black, white = self.levels
                rank_zero_only(print)(f"in images of more than 8 bits, {black:,g} becomes black and {white:,g} white")
        for samples in splits:
            samples.levels = self.levels

    def _image_sizes(self, train: Samples) -> dict[str, tuple[int, int]]:
        """Return the height and width of evaluated images, and of training images if augmentation changes them.

        Returns:
            the sizes by the key of the config that decides them: `data.image_size`, `data.augment`

        Raises:
            UserError: the augmentation cannot be applied to images of that size.
        """
        blank = Tensors(train.targets[:1], torch.zeros(1, *train.shape, dtype=torch.uint8))
        height, width = blank.shape[1:]
        try:
            batch = Split(blank, self.augment, self.sample, self.collate).__getitems__([(0, 0)])
        except UserError:
            raise
        except Exception as error:  # anyone may have written a transform, and it may raise anything
            raise UserError(
                f"data.augment cannot be applied to images of data.image_size, {height}x{width} "
                f"({type(error).__name__}: {in_a_line(error)}); RandomShift and RandomZoomIn of "
                "kit.data crop without changing an image's size"
            ) from error
        sizes = {"data.image_size": (height, width)}
        rows, columns = batch.images.shape[-2:]
        if (rows, columns) != (height, width):
            sizes["data.augment"] = rows, columns
            rank_zero_only(print)(
                f"training images are {rows}x{columns} (data.augment), evaluated images are {height}x{width} "
                "(data.image_size)",
                flush=True,
            )
        return sizes

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to an image before the net gets it; known after `setup`."""
        mean, std = self.mean or [], self.std or []
        return Preprocessing(self.in_channels, self._size, self.keep_aspect, mean, std, self.levels)

    def _present(self, split: str) -> Samples:
        samples = self.samples.get(split)
        if samples is None:
            raise UserError(f"there are no {split} images for {type(self).__name__}")
        return samples

    def _cached(self, samples: Samples, split: str) -> Samples:
        if isinstance(samples, Tensors) or self.cache == "none":
            return samples
        if self.cache == "ram":
            return caches.in_memory(samples, f"{split} images")
        return caches.on_disk(samples, self.cache_dir, f"{split} images")

    def files(self, keys: Tensor, split: str) -> list[str]:
        """The file of each sample, or its number where it has none."""
        samples = self._present(split)
        return [samples.file(key) or f"sample {key} of {split}" for key in keys.tolist()]

    def examples(self, split: str, keys: Sequence[int]) -> list[Batch]:
        """Samples as they are evaluated, each alone in a batch, uint8 and on the CPU; it draws no random number."""
        some = Split(self._present(split), (), self.sample, self.collate)
        return [some.__getitems__([(key, 0)]) for key in keys]

    def images(self, split: str, keys: Sequence[int]) -> tuple[Tensor, Any]:
        """Return samples as they are evaluated, read in several threads: images, uint8 [N C H W], and their targets."""
        some = Split(self._present(split), (), self.sample, self.collate)
        parts = [keys[start : start + self.batch_size] for start in range(0, len(keys), self.batch_size)]
        batches = list(in_threads(lambda part: some.__getitems__([(key, 0) for key in part]), parts))
        targets = [batch.targets for batch in batches]
        joined = torch.cat(targets) if isinstance(targets[0], Tensor) else [one for part in targets for one in part]
        return torch.cat([batch.images for batch in batches]), joined

    def train_dataloader(self) -> DataLoader:
        return self._loader("train", train=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader:
        return self._loader("test")

    @property
    def evaluated(self) -> Literal["test", "val"]:
        """The split that a report is about."""
        return "test" if self.samples.get("test") is not None else "val"

    def train_part_dataloader(self) -> DataLoader:
        """As many training images as there are of `val`, picked by `seed` once and for all, and seen as those are."""
        generator = torch.Generator().manual_seed(self.seed)
        places = torch.randperm(len(self._present("train")), generator=generator)[: len(self._present("val"))]
        return self._loader("train", places=places.sort().values)

    def _loader(self, split: str, train: bool = False, places: Tensor | None = None) -> DataLoader:
        samples = self._present(split)
        trainer = self.trainer
        sampler = BatchSampler(
            len(samples) if places is None else len(places),
            self.batch_size if train or samples.one_size else 1,
            seed=self.seed,
            epoch=partial(_epoch, trainer),
            start=partial(_batches_done, trainer if train else None),
            rank=trainer.global_rank if trainer else 0,
            world=trainer.world_size if trainer else 1,
            train=train,
            weights=_balancing_weights(self.strata(samples)) if train and self.balanced else None,
            places=places,
        )
        dataset = Split(samples, self.augment if train else (), self.sample, self.collate)
        workers = sensible_workers(trainer, samples) if self.num_workers is None else self.num_workers
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0 and places is None,  # which is looked at now and then
            collate_fn=_whole,
            worker_init_fn=unheard,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """uint8 becomes normalised floats, on the device."""
        return batch._replace(images=self.normalise(batch.images))

    def normalise(self, images: Tensor) -> Tensor:
        """See `Preprocessing.normalise`."""
        return self.preprocessing.normalise(images)

    def state_dict(self) -> dict[str, Any]:
        """What the data taught: a checkpoint holds it, so that using the model needs no training data."""
        taught = {"class_names": self.class_names, "in_channels": self.in_channels, "mean": self.mean, "std": self.std}
        seen_as = {"size": self._size, "keep_aspect": self.keep_aspect, "levels": self.levels}
        return {**taught, **seen_as, "left_out": self.left_out, "fingerprint": self.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean, self.std = state["mean"], state["std"]
        self._class_names, self._in_channels = state["class_names"], state["in_channels"]
        self.levels = state.get("levels")
        _ = self.preprocessing  # says what does not fit


def _whole(batch: Any) -> Any:
    """`Split.__getitems__` makes whole batches: nothing is left to collate."""
    return batch


def _epoch(trainer: L.Trainer | None) -> int:
    return 0 if trainer is None else trainer.current_epoch


def _batches_done(trainer: L.Trainer | None) -> int:
    """Of the epoch that is under way: 0, but for a run that is resumed (`kit.safeguards.ExactResume`)."""
    return 0 if trainer is None else trainer.fit_loop.epoch_loop.batch_progress.current.completed


def _balancing_weights(strata: Tensor) -> Tensor:
    return 1.0 / torch.bincount(strata)[strata]


def mean_and_std(
    samples: Samples, sample: Callable[[Tensor, Any], tuple[Tensor, Any]], most: int = 5000
) -> tuple[list[float], list[float]]:
    """For each channel, of pixels from 0 to 1, over all images, or over `most` of them, evenly spaced."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    indices = range(0, len(samples), math.ceil(len(samples) / most))
    for start in range(0, len(indices), 100):
        some = list(indices[start : start + 100])
        for index, read in zip(some, samples.fetch(some), strict=True):
            image, _ = sample(read, samples.targets[index])
            pixels = image.flatten(1).double() / 255
            count, total, squares = count + pixels.shape[1], total + pixels.sum(1), squares + pixels.square().sum(1)
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=1e-6).sqrt()  # 1e-6: constant images are no reason to divide by 0
    return mean.tolist(), std.tolist()


def sensible_workers(trainer: L.Trainer | None, samples: Samples) -> int:
    """None where images are in memory and the processor trains (it would only be taken from), else one a core but one.

    The cores are shared by this node's processes; more than 16 rarely help one of them.
    """
    processes = 1 if trainer is None else max(1, trainer.num_devices)
    on_processor = trainer is None or trainer.strategy.root_device.type == "cpu"
    if isinstance(samples, Tensors) and on_processor:
        return 0
    return min(16, max(0, cores() // processes - 1))


def _are_class_numbers(targets: Any) -> bool:
    return isinstance(targets, Tensor) and targets.ndim == 1 and not targets.is_floating_point()
