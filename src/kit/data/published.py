"""Data sets that torchvision knows, as samples."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import VisionDataset

from kit.data.datamodule import ImageDataModule
from kit.data.samples import Indexed, Samples, Tensors
from kit.ground.errors import UserError, in_a_line


class Published(ImageDataModule):
    """A data set of torchvision, images with their classes, by its class path, as `torchvision.datasets.MNIST`.

    Args:
        dataset: the class, with arguments of its own if it needs any; the splits are asked for as it knows them.
        root: where its files lie, as torchvision understands it.
        image_size: height and width; None keeps the images as they are, where the data set has them in memory (MNIST).
        download: fetch what is not there.
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
        return class_names(opened(self.dataset, "train", self.root, self.download))

    def find_in_channels(self) -> int:
        train = self._given("train")
        assert train is not None  # `opened` would have said so
        return int(train.read(0).shape[0])

    def given(self, split: str) -> Samples | None:
        dataset = opened(self.dataset, split, self.root, self.download)
        return None if dataset is None else samples(dataset, self.image_size)


def opened(dataset: Callable[..., VisionDataset], split: str, root: str, download: bool) -> VisionDataset | None:
    """The data set's own split; None where it has none of that name. torchvision spells them in two ways.

    Raises:
        UserError: its files are not in `root`, or it has no training part.
    """
    spellings: list[dict[str, Any]] = [{"split": split}]
    if split != "val":
        spellings.append({"train": split == "train"})
    for spelling in spellings:
        for fetched in ({"download": download}, {}):
            try:
                return dataset(root=root, **spelling, **fetched)
            except TypeError:
                continue  # an argument that this data set does not know
            except ValueError:
                break  # a split that it does not have
            except (RuntimeError, OSError) as error:
                where, why = Path(root).absolute(), in_a_line(error)
                advice = "give its folder with --data.root" + ("" if download else ", or --data.download true")
                raise UserError(f"no data set in {where} ({why}); {advice}") from None
    if split == "train":
        raise UserError("data.dataset has neither a `train` nor a `split` argument: write a data module for it")
    return None


def class_names(dataset: Any) -> list[str]:
    """Its own, or numbers."""
    return [str(name) for name in getattr(dataset, "classes", None) or range(int(labels(dataset).max()) + 1)]


def samples(dataset: Any, size: tuple[int, int] | None) -> Samples:
    """Its images and labels.

    Args:
        size: height and width; None keeps the images as they are, where the data set has them in memory.

    Raises:
        UserError: it has not, and there is no size.
    """
    images = _pixels(dataset)
    if images is not None and (size is None or images.shape[-2:] == size):
        return Tensors(labels(dataset), images)
    if size is None:
        raise UserError("data.image_size is needed: this data set reads its images one by one, of any size")
    return Indexed(labels(dataset), dataset, 1 if dataset[0][0].mode in ("L", "1") else 3, size)


def labels(dataset: Any) -> Tensor:
    """Long[N]."""
    for name in ("targets", "labels", "_labels"):
        if hasattr(dataset, name):
            return torch.as_tensor(np.asarray(getattr(dataset, name))).long()
    return torch.tensor([int(dataset[i][1]) for i in range(len(dataset))])


def _pixels(dataset: Any) -> Tensor | None:
    """uint8 [N C H W] where the data set holds all of its pixels in memory, as MNIST, CIFAR and SVHN do."""
    data = getattr(dataset, "data", None)
    if not isinstance(data, (np.ndarray, Tensor)):
        return None
    data = torch.as_tensor(data)
    if data.dtype != torch.uint8:
        return None
    if data.ndim == 3:
        return data[:, None]
    return data if data.shape[1] in (1, 3) else data.permute(0, 3, 1, 2).contiguous()
