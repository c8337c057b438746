"""Use the data sets of torchvision as samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import VisionDataset

from kit.data.datamodule import ImageDataModule
from kit.data.decode import resize, to_tensor
from kit.data.samples import Samples, Tensors
from kit.ground.errors import UserError, one_line


class TorchvisionDataModule(ImageDataModule):
    """A data set of torchvision with images and classes, named by its class path, as `torchvision.datasets.MNIST`.

    Args:
        dataset: the class, with its own arguments if it needs any. The data module sets the split.
        root: the folder of its files, as torchvision understands it.
        image_size: height and width. None keeps the images as they are, if the data set has them in memory (MNIST).
        download: download missing files.
    """

    def __init__(
        self,
        dataset: Callable[..., VisionDataset],
        root: str = "data",
        image_size: tuple[int, int] | None = None,
        download: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataset, self.root, self.download = dataset, root, download
        self.image_size: Any = None if image_size is None else tuple(image_size)  # a list on the command line

    def find_class_names(self) -> list[str]:
        dataset = open_split(self.dataset, "train", self.root, self.download)
        # Some data sets do not name their classes, and others name them in their class.
        names = getattr(dataset, "classes", None) or range(int(read_labels(dataset).max()) + 1)
        return [str(name) for name in names]

    def find_in_channels(self) -> int:
        return self.splits()["train"].shape[0]  # `open_split` raises if there is no such split

    def load_split(self, split: str) -> Samples | None:
        dataset = open_split(self.dataset, split, self.root, self.download)
        return None if dataset is None else to_samples(dataset, self.image_size)


@dataclass
class Indexed(Samples):
    """Samples of another library's data set, which returns `(PIL image or uint8 tensor, target)` at an index.

    indices: the samples' indices in `dataset`.
    """

    dataset: Any
    channels: int
    size: tuple[int, int]
    indices: Sequence[int]
    PER_SAMPLE: ClassVar = (*Samples.PER_SAMPLE, "indices")

    def read(self, index: int) -> Tensor:
        image = self.dataset[self.indices[index]][0]
        if isinstance(image, Tensor):
            return resize(image, self.size)
        return to_tensor(image, self.channels, self.size)


def open_split(dataset: Callable[..., VisionDataset], split: str, root: str, download: bool) -> VisionDataset | None:
    """Create the data set of a split, or return None if it has no such split.

    Data sets of torchvision name their splits either by `split="train"` or by `train=True`.

    Raises:
        UserError: the files are not in `root`, or the data set has no training split.
    """
    spellings: list[dict[str, Any]] = [{"split": split}]
    if split != "val":
        spellings.append({"train": split == "train"})
    for spelling, options in product(spellings, ({"download": download}, {})):
        try:
            return dataset(root=root, **spelling, **options)
        except (TypeError, ValueError):
            continue  # the data set does not have one of these arguments, or not this split
        except (RuntimeError, OSError) as error:
            advice = "give its folder with --data.root" + ("" if download else ", or --data.download true")
            raise UserError(f"no data set in {Path(root).absolute()} ({one_line(error)}); {advice}") from None
    if split == "train":
        raise UserError("data.dataset has neither a `train` nor a `split` argument: write a data module for it")
    return None


def to_samples(dataset: Any, size: tuple[int, int] | None) -> Samples:
    """Return the images and labels of a data set.

    Args:
        size: height and width. None keeps the images as they are, if the data set has them in memory.

    Raises:
        UserError: `size` is None, and the data set does not have its images in memory.
    """
    images = _images_in_memory(dataset)
    if images is not None and (size is None or images.shape[-2:] == size):
        return Tensors(read_labels(dataset), images)
    if size is None:
        raise UserError("data.image_size is needed: this data set reads its images one by one, of any size")
    channels = 1 if dataset[0][0].mode in ("L", "1") else 3
    return Indexed(read_labels(dataset), dataset, channels, size, range(len(dataset)))


def read_labels(dataset: Any) -> Tensor:
    """Return the label of each image, Long[N]."""
    attributes = [vars(dataset)[name] for name in ("targets", "labels", "_labels") if name in vars(dataset)]
    labels = attributes[0] if attributes else [int(dataset[i][1]) for i in range(len(dataset))]
    return torch.as_tensor(np.asarray(labels)).long()


def _images_in_memory(dataset: Any) -> Tensor | None:
    """Return uint8 [N C H W] if the data set has all of its pixels in memory, as MNIST, CIFAR and SVHN do."""
    data = vars(dataset).get("data")
    images = torch.as_tensor(data) if isinstance(data, (np.ndarray, Tensor)) else None
    if images is None or images.dtype != torch.uint8:
        return None
    if images.ndim == 3:
        return images[:, None]
    return images if images.shape[1] in (1, 3) else images.permute(0, 3, 1, 2).contiguous()
