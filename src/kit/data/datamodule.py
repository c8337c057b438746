"""The base class of all data modules: it splits, caches, loads and normalises the images that subclasses provide."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Transform

from kit.charts import Chart
from kit.data import loading
from kit.data.contents import Contents
from kit.data.description import describe, label_charts, report_augmented_size
from kit.data.levels import Levels, find_levels
from kit.data.preprocessing import Preprocessing, mean_and_std
from kit.data.reading import cache_images
from kit.data.samples import Batch, Files, Samples, Tensors
from kit.data.splitting import stratified_split
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.ranges import NonNegativeInt, PositiveInt
from kit.ground.threads import map_in_threads

VAL_FRACTION = 0.1  # the fraction of train that is split off for validation if there is no val


class ImageDataModule(Contents):
    """The base class of data modules.

    Subclasses define `find_class_names()`, `find_in_channels()` and `load_split(split)`. If targets are not class
    numbers, they also override `sample`, `collate`, `strata`, `count_classes` and `hashable_target`: see
    `kit.data.contents`. They set `keep_aspect` if images are fitted into `image_size` instead of stretched.

    Args:
        batch_size: the number of samples in a batch of one process, in training and evaluation.
        augment: torchvision v2 transforms of a training image (uint8 [C H W]), random for each sample and epoch.
            `kit.data.augment` has crops that keep `image_size`.
        cache: `ram` keeps the decoded images in memory; `disk` keeps them in a memory-mapped file in `cache_dir`, also
            for later runs; `none` decodes them in every epoch.
        mean, std: one number for each channel, for pixels from 0 to 1; by default those of the training images.
        balanced: draw all classes (in general, all `strata`) equally often in training.
        num_workers: the number of processes that read and augment; by default, see `loading.default_num_workers`.
        seed: the seed of splitting, shuffling and augmentation. The command line sets it to the run's seed.
    """

    keep_aspect = False

    def __init__(
        self,
        batch_size: PositiveInt = 64,
        augment: Sequence[Transform] | None = (),
        cache: Literal["none", "ram", "disk"] = "none",
        cache_dir: str = ".cache",
        mean: list[float] | None = None,
        std: list[float] | None = None,
        balanced: bool = False,
        num_workers: NonNegativeInt | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if (mean is None) != (std is None):
            raise UserError("data.mean and data.std go together: give both, or neither to have them computed")
        # All arguments but `augment` are plain values, which a checkpoint can contain.
        self.save_hyperparameters(logger=False, ignore=["augment"])
        self.batch_size, self.augment, self.num_workers = batch_size, augment or (), num_workers
        self.cache, self.cache_dir, self.balanced, self.seed = cache, Path(cache_dir), balanced, seed
        self.mean, self.std = mean, std
        self.levels: Levels | None = None  # the values of black and white in deep images, set by `setup`
        self._size: tuple[int, int] | None = None  # the size of all images, or None if sizes differ; set by `setup`
        self.samples: dict[str, Samples | None] = {}  # the splits, set by `setup`
        self.left_out, self._loaded = {}, {}
        self.description = ""  # the result of `describe`, set by `setup` for a fit
        self.all_is_test = False  # whether to test on train if the data have neither val nor test
        self._is_set_up = False  # whether `_set_up` has ended

    def prepare_data(self) -> None:
        """Fill the cache on disk. Lightning calls this in one process of each machine, before `setup`."""
        if self.cache == "disk":
            self._set_up(TrainerFn(self.trainer.state.fn).value if self.trainer else "fit")

    def setup(self, stage: str) -> None:
        """At the first call, split off a tenth of train if there is no val, fill the cache, and compute mean and std.

        Raises:
            BrokenFiles: the processes have left out different files.
        """
        self._set_up(stage)
        if self.trainer is not None and torch.distributed.is_initialized():
            strategy, files = self.trainer.strategy, {split: sorted(files) for split, files in self.left_out.items()}
            is_equal = strategy.broadcast(files) == files
            if not strategy.reduce_boolean_decision(is_equal, all=True):
                raise BrokenFiles("the processes leave out different files; give all machines the same data")

    def _set_up(self, stage: str) -> None:
        if self._is_set_up:
            return
        if stage == "fit":
            _ = self.fingerprint  # computed here, before train is split and the images are cached
        val, test = self.usable_samples("val"), self.usable_samples("test")
        train_is_unused = stage == "test" and self.mean is not None and test is not None
        train = None if train_is_unused else self.usable_samples("train")
        if self.all_is_test and val is None and test is None:
            train, test = None, train
        if val_is_split_off := val is None and train is not None:
            train_indices, val_indices = stratified_split(self.strata(train), VAL_FRACTION, self.seed, train.groups)
            train, val = train.subset(train_indices), train.subset(val_indices)
        splits = {"train": train, "val": val, "test": test}
        if stage == "fit" and train is not None:
            self.description = describe(self, splits, val_is_split_off)
            rank_zero_only(print)(self.description, flush=True)
        elif self.mean is not None:
            splits["train"] = None  # without training, train is only needed to compute mean and std
        file_splits = [samples for samples in splits.values() if isinstance(samples, Files)]
        if file_splits and self.levels is None:  # no checkpoint has set them
            self.levels = find_levels(file_splits[0].paths)
        for file_split in file_splits:
            file_split.levels = self.levels
        for split, samples in splits.items():
            if samples and self.cache != "none" and not isinstance(samples, Tensors):
                folder = self.cache_dir if self.cache == "disk" else None
                samples = cache_images(samples, folder, f"{split} images")
            self.samples[split] = samples
        if self.mean is None or self.std is None:
            self.mean, self.std = mean_and_std(self._require("train"), self.sample)
        first_split = next(filter(None, self.samples.values()), None)
        self._size = first_split.shape[1:] if first_split and first_split.one_size else None
        _ = self.preprocessing  # raises an error if a value is invalid
        self._loaded.clear()  # free the originals: `self.samples` may hold copies of them
        train = self.samples["train"]
        if stage == "fit" and train and train.one_size:
            blank = Tensors(train.targets[:1], torch.zeros(1, *train.shape, dtype=torch.uint8))
            report_augmented_size(self._dataset(blank, self.augment), train.shape[1:])
        self._is_set_up = True

    @property
    def preprocessing(self) -> Preprocessing:
        """The conversion of an image to the net's input."""
        mean, std = self.mean or [], self.std or []
        return Preprocessing(self.in_channels, self._size, self.keep_aspect, mean, std, self.levels)

    def _require(self, split: str) -> Samples:
        samples = self.samples.get(split)
        if samples is None:
            raise self.missing(split)
        return samples

    def files(self, keys: Tensor, split: str) -> list[str]:
        """Return the file of each sample, or a text such as `sample 7 of train`. keys: the samples' indices."""
        samples = self._require(split)
        return [samples.file(key) or f"sample {key} of {split}" for key in keys.tolist()]

    def examples(self, split: str, keys: Sequence[int], batch_size: int = 1) -> list[Batch]:
        """Return batches of samples as in evaluation, with uint8 images on the CPU. No random numbers are drawn."""
        dataset = self._dataset(self._require(split))
        pairs = [(key, 0) for key in keys]  # the second number seeds the augmentation, which is not used here
        parts = [pairs[start : start + batch_size] for start in range(0, len(pairs), batch_size)]
        return list(map_in_threads(dataset.__getitems__, parts))

    def images(self, split: str, keys: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return images as in evaluation, uint8 [N C H W], and their class numbers, Long[N]. Sizes must be equal."""
        batches = self.examples(split, keys, self.batch_size)
        return torch.cat([batch.images for batch in batches]), torch.cat([batch.targets for batch in batches])

    def charts(self) -> dict[str, Chart]:
        """Return charts of the training data by their names, such as `labels`: how often each class occurs."""
        return label_charts(self, train) if (train := self.samples.get("train")) is not None else {}

    def _dataset(self, samples: Samples, augment: Sequence[Transform] = ()) -> loading.SplitDataset:
        return loading.SplitDataset(samples, augment, self.sample, self.collate)

    def train_dataloader(self) -> DataLoader:
        return self._loader("train", train=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader:
        return self._loader("test")

    def train_part_dataloader(self) -> DataLoader:
        """Return a loader of a fixed random part of train, with as many samples as val and without augmentation."""
        generator = torch.Generator().manual_seed(self.seed)
        indices = torch.randperm(len(self._require("train")), generator=generator)[: len(self._require("val"))]
        return self._loader("train", indices=indices.sort().values)

    def _loader(self, split: str, train: bool = False, indices: Tensor | None = None) -> DataLoader:
        samples, trainer = self._require(split), self.trainer
        strata = self.strata(samples) if train and self.balanced else None
        sampler = loading.BatchSampler(
            len(samples) if indices is None else len(indices),
            self.batch_size if train or samples.one_size else 1,
            seed=self.seed,
            epoch=lambda: trainer.current_epoch if trainer else 0,
            start=lambda: trainer.fit_loop.epoch_loop.batch_progress.current.completed if trainer and train else 0,
            rank=trainer.global_rank if trainer else 0,
            world=trainer.world_size if trainer else 1,
            train=train,
            weights=None if strata is None else 1.0 / torch.bincount(strata)[strata],
            indices=indices,
        )
        workers = loading.default_num_workers(trainer, samples) if self.num_workers is None else self.num_workers
        workers = loading.usable_workers(workers)
        return DataLoader(
            self._dataset(samples, self.augment if train else ()),
            batch_sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0 and indices is None,  # a part of train is rarely read
            collate_fn=loading.keep_batch,
            worker_init_fn=loading.prepare_worker,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Normalise the images on the device, and convert them to the precision of the weights."""
        images = self.preprocessing.normalise(batch.images)
        return batch._replace(images=self.trainer.precision_plugin.convert_input(images) if self.trainer else images)

    def state_dict(self) -> dict[str, Any]:
        """Return the values that are needed to use a checkpoint's model without the training data."""
        return {
            "class_names": self.class_names,
            "in_channels": self.in_channels,
            "mean": self.mean,
            "std": self.std,
            "size": self._size,
            "keep_aspect": self.keep_aspect,
            "levels": self.levels,
            "several_labels": self.several_labels,
            "left_out": self.left_out,
            "fingerprint": self.fingerprint,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.several_labels != bool(state.get("several_labels")):
            kinds = ("several labels", "one label") if self.several_labels else ("one label", "several labels")
            raise UserError(f"an image of {type(self).__name__} has {kinds[0]}, but the model is for {kinds[1]}")
        self.mean, self.std, self.levels = state["mean"], state["std"], state.get("levels")
        self.class_names, self.in_channels = state["class_names"], state["in_channels"]
        if "keep_aspect" not in self.hparams and not self._is_set_up:  # some data modules do not have this argument
            self.keep_aspect = bool(state.get("keep_aspect", self.keep_aspect))
        self.use_size(state.get("size"))
        _ = self.preprocessing  # raises an error if a value is invalid


def evaluated_split(data: LightningDataModule) -> Literal["test", "val"]:
    """Return the split that is evaluated in reports: test, or val if the data are images without a test split."""
    return "val" if isinstance(data, ImageDataModule) and data.samples.get("test") is None else "test"
