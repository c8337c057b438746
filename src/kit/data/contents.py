"""The contents of a data module: the class names, the number of channels, and the samples of each split."""

import math
import shlex
from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from kit.data import reading
from kit.data.decode import validate_size
from kit.data.loading import stack
from kit.data.preprocessing import for_channels
from kit.data.samples import Files, Samples
from kit.ground import app
from kit.ground.errors import UserError
from kit.ground.faults import Fault

SPLITS = ("train", "val", "test")


class Contents(L.LightningDataModule):
    """The base of `ImageDataModule`: methods that subclasses define, and attributes that are available before `setup`.

    Attributes:
        root: the folder of the files; "" if no files are read.
        image_size: the height and width to which images are resized, "native" or None: see `input_size`.
        takes_pretraining_size: whether images get the size with which the net's pretrained weights were trained, if
            `image_size` is None.
        size_source: a text that says where the image size comes from if `image_size` is None.
        format_name: the format of the data in a word or two.
        object_noun: a plural noun for the objects that `count_classes` counts; "" for images, pixels and labels.
        several_labels: whether an image may have any number of labels. Targets are then Float[K] of 0 and 1.
        root_options: the names of the arguments whose values are valid for one `root` only, such as names of files. If
            the command `test` gets another `root`, it does not use the values that these arguments had in the run.
    """

    root: Any = ""
    image_size: Any = None
    takes_pretraining_size = False
    size_source = "chosen from the data"  # set by `use_size`
    format_name, object_noun = "", ""
    several_labels: bool = False
    root_options: tuple[str, ...] = ()
    cache_dir: Path
    mean: list[float] | None
    std: list[float] | None
    left_out: dict[str, dict[str, str]]  # for each split, the files that cannot be decoded, with their problems
    _loaded: dict[str, Samples | None]  # the results of `load_split`, until `setup` ends

    # Subclasses define `find_class_names`, `find_in_channels` and `load_split`, and override other methods if needed.

    def find_class_names(self) -> list[str]:
        """Return the names of the classes, in the order of their numbers."""
        raise NotImplementedError(f"{type(self).__name__} does not define `find_class_names`")

    def find_in_channels(self) -> int:
        """Return the number of channels that every image is converted to."""
        raise NotImplementedError(f"{type(self).__name__} does not define `find_in_channels`")

    def load_split(self, split: str) -> Samples | None:
        """Return the samples of the split "train", "val" or "test", or None if the data have no such split."""
        raise NotImplementedError(f"{type(self).__name__} does not define `load_split`")

    def find_image_size(self) -> tuple[int, int] | None:
        """Return the height and width to resize to if `image_size` is None, or None to keep the size of each image."""
        return None

    def count_classes(self, samples: Samples) -> list[int]:
        """Return how often each class occurs: a number of images, boxes or pixels for each class.

        By default, this is the number of samples of the class, or of all samples if targets are neither class numbers
        nor labels.
        """
        if self.several_labels:
            return samples.targets.sum(0).long().tolist()
        if not samples.has_class_numbers:
            return [len(samples)] * self.num_classes
        return torch.bincount(samples.targets, minlength=self.num_classes).tolist()

    def strata(self, samples: Samples) -> Tensor:
        """Return the stratum of each sample, Long[N].

        If a validation part is split off, both parts have the same fraction of each stratum. With `balanced`, training
        draws all strata equally often. By default, the strata are the classes, or a single one if targets are not class
        numbers. With several labels, the stratum is 1 + the index of the image's rarest label, or 0 for no label.
        """
        if self.several_labels:
            is_set, counts = samples.targets > 0, samples.targets.sum(0)
            return is_set.any(1) * (counts.expand_as(is_set).where(is_set, math.inf).argmin(1) + 1)
        return samples.targets if samples.has_class_numbers else torch.zeros(len(samples), dtype=torch.long)

    def annotation_faults(self) -> Iterable[Fault]:
        """Yield the faults in the annotations of all splits, for `check`, without raising exceptions for them."""
        return ()

    @staticmethod
    def sample(pixels: Tensor, target: Any) -> tuple[Tensor, Any]:
        """Make a sample's image and target from its pixels, uint8 [C H W], and its entry in `samples.targets`."""
        return pixels, target if isinstance(target, Tensor) and target.ndim else int(target)

    @staticmethod
    def collate(images: Sequence[Tensor], targets: Sequence[Any]) -> tuple[Tensor, Any]:
        """Return the images of a batch, uint8 [B C H W], and its targets."""
        return stack(images), torch.stack(list(targets)) if isinstance(targets[0], Tensor) else torch.tensor(targets)

    def hashable_target(self, samples: Samples, index: int) -> Hashable:
        """Return a hashable form of a target, by which `check` compares the targets of duplicate images.

        Return None for class numbers, since `check` reads them from `samples.targets`. Return None also for a target
        that cannot be read.
        """
        return tuple(samples.targets[index].tolist()) if self.several_labels else None

    # These are available before `setup`.

    @cached_property
    def class_names(self) -> list[str]:
        return self.find_class_names()

    @cached_property
    def in_channels(self) -> int:
        return self.find_in_channels()

    @cached_property
    def input_size(self) -> tuple[int, int] | None:
        """The height and width to which image files are resized, or None if each image keeps its size.

        The latter is so if `image_size` is "native". If `image_size` is None, the size is that of the loaded checkpoint
        or of the pretrained weights, or else the size that `find_image_size` chooses.
        """
        if self.image_size == "native":
            return None
        return validate_size(self.image_size, "data.image_size") or self.find_image_size()

    def use_size(self, size: Any, source: str = "as in the checkpoint") -> None:
        """Use the size of a checkpoint or of pretrained weights, unless `image_size` is given.

        Samples that are already loaded get this size, too.

        Args:
            size: the height and width, or None.
            source: the new `size_source`.
        """
        if self.image_size is None and size is not None:
            self.input_size, self.size_source = validate_size(size, f"the image size {source}"), source
            for samples in self._loaded.values():
                if isinstance(samples, Files) and self.input_size:
                    samples.size = self.input_size

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def class_counts(self) -> list[int]:
        """The result of `count_classes` for train, before `setup` splits off a validation part."""
        train = self.usable_samples("train")
        if train is None:
            raise self.missing("train")
        return self.count_classes(train)

    @property
    def most_objects(self) -> int:
        """The largest number of objects in a training image; 0 if targets are not objects."""
        return 0

    def refuse_other_classes(self, names: Sequence[str]) -> None:
        """Raise an error if `class_names`, which a checkpoint may have set, are not `names` in the same order.

        Data modules whose targets are the numbers of fixed classes call this.

        Raises:
            UserError: the names or their order differ.
        """
        if self.class_names != list(names):
            texts = [", ".join(classes[:5]) + ", ..." * (len(classes) > 5) for classes in (names, self.class_names)]
            raise UserError(f"{type(self).__name__} has the classes {texts[0]}, but the model has {texts[1]}")

    def split(self, split: str) -> Samples | None:
        """Return the result of `load_split`, which is kept until `setup` ends."""
        _ = self.input_size  # raises an error if `image_size` is invalid
        if split not in self._loaded:
            self._loaded[split] = self.load_split(split)
        return self._loaded[split]

    def load_splits(self) -> dict[str, Samples]:
        """Return the results of `load_split` for the existing splits, in the order train, val, test."""
        return {split: samples for split in SPLITS if (samples := self.split(split)) is not None}

    def use_preprocessing_of_weights(
        self, mean: Sequence[float] | None, std: Sequence[float] | None, image_size: tuple[int, int] | None
    ) -> dict[str, Any]:
        """Use the mean, std and image size of pretrained weights, unless the user has given them.

        The command line calls this before `setup`. See `kit.training.weights.Weights` for the arguments.

        Returns:
            the arguments that were set, by name. The image size is not one of them: it changes `input_size`.
        """
        matched: dict[str, Any] = {}
        if self.mean is None and mean is not None and std is not None:
            self.mean, self.std = (for_channels(values, self.in_channels) for values in (mean, std))
            matched = {"mean": self.mean, "std": self.std}
        if self.takes_pretraining_size and self.image_size is None and image_size:
            self.use_size(image_size, "for the pretrained weights")
        self.hparams.update(matched)
        return matched

    def missing(self, split: str) -> UserError:
        """Return the error for a split without images. Its message lists the splits that have images."""
        source, splits = self.root or type(self).__name__, " and ".join(self.load_splits())
        options = f"--data {type(self).__module__}.{type(self).__name__}"
        options += f" --data.root {shlex.quote(str(self.root))}" if self.root else ""
        remedy = f"; add some, or measure a trained model: {app.command('test')} RUN {options}" * (split == "train")
        hint = f", only {splits} images{remedy}" if splits else ""
        return UserError(f"{source}: there are no {split} images{hint}")

    def usable_samples(self, split: str) -> Samples | None:
        """Return the samples of a split, without those whose files cannot be decoded.

        The first call decodes every file, unless an earlier run has stored the result (see `kit.data.reading`). It
        prints the files that fail, and stores them in `left_out`. If `left_out` has an entry for the split already,
        nothing is decoded.

        Raises:
            BrokenFiles: too many files cannot be decoded.
            UnreachableFiles: the system cannot read a file.
        """
        samples = self.split(split)
        if not isinstance(samples, Files):
            return samples
        if split not in self.left_out:
            self.left_out[split] = reading.find_broken(samples, self.cache_dir, split)
        left_out = self.left_out[split]
        if not left_out:
            return samples
        return samples.subset(torch.tensor([i for i in range(len(samples)) if samples.file(i) not in left_out]))

    @cached_property
    def fingerprint(self) -> dict[str, dict[str, int]]:
        """The fingerprint of each split, which changes if the data change: see `Samples.fingerprint`."""
        return {split: samples.fingerprint() for split in SPLITS if (samples := self.usable_samples(split)) is not None}
