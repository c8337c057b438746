"""Use torchvision's data sets."""

import re
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
from kit.data.decode import ImageSize, to_tensor
from kit.data.samples import Samples, Tensors
from kit.ground.errors import UserError, one_line


class TorchvisionDataModule(ImageDataModule):
    """A data set of torchvision with an image and a class for each sample.

    Args:
        dataset: the class path of a data set, such as `torchvision.datasets.MNIST`. It may have arguments, but not
            `split`, `train` or one of the arguments below.
        root: the folder of the data set, its argument `root`.
        image_size: height and width. None keeps the images' size, for data sets in memory, such as MNIST.
        download: whether to download missing files.
    """

    format_name = "a data set of torchvision"

    def __init__(
        self,
        dataset: Callable[..., VisionDataset],
        root: str = "data",
        image_size: ImageSize | None = None,
        download: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataset, self.root, self.download = dataset, root, download
        self.image_size: Any = None if image_size is None else tuple(image_size)  # a list on the command line

    def find_class_names(self) -> list[str]:
        dataset = open_split(self.dataset, "train", self.root, self.download)
        # Some data sets do not name their classes.
        names = getattr(dataset, "classes", None) or range(int(read_labels(dataset).max()) + 1)
        return [str(name) for name in names]

    def find_in_channels(self) -> int:
        return self.load_splits()["train"].shape[0]  # `open_split` raises an error if the data have no train

    def load_split(self, split: str) -> Samples | None:
        """Return the samples of a split, or None if it does not exist.

        Raises:
            UserError: `image_size` is None, and the images are not in memory.
        """
        dataset = open_split(self.dataset, split, self.root, self.download)
        if dataset is None:
            return None
        if names := getattr(dataset, "classes", None):  # some data sets do not name their classes
            self.refuse_other_classes([str(name) for name in names])
        labels, images, size = read_labels(dataset), _images_in_memory(dataset), self.image_size
        if images is not None and (size is None or images.shape[-2:] == size):
            return Tensors(labels, images)
        if size is None:
            raise UserError("data.image_size is needed, since the images of this data set may differ in size")
        channels = 1 if dataset[0][0].mode in ("L", "1") else 3
        return Indexed(labels, dataset, channels, size, range(len(labels)))


@dataclass
class Indexed(Samples):
    """Samples of a data set whose items are `(PIL image, target)`.

    indices: the samples' indices in the data set.
    """

    dataset: Any
    channels: int
    size: tuple[int, int]
    indices: Sequence[int]
    FIELDS_OF_SAMPLES: ClassVar = (*Samples.FIELDS_OF_SAMPLES, "indices")

    def read(self, index: int) -> Tensor:
        return to_tensor(self.dataset[self.indices[index]][0], self.channels, self.size)


def open_split(dataset: Callable[..., VisionDataset], split: str, root: str, download: bool) -> VisionDataset | None:
    """Create the data set of a split, or return None if the split does not exist.

    Torchvision's data sets take either `split="train"` or `train=True`. "val" may be "valid".

    Raises:
        UserError: the data set cannot be read from `root`, or it accepts no argument for the split.
        TypeError, ValueError: the data set raises this error for val or test, and its message does not name the split.
    """
    choices: list[dict[str, Any]] = [{"split": split}]
    choices.append({"split": "valid"} if split == "val" else {"train": split == "train"})  # Country211 has "valid"
    problems: dict[str, str] = {}
    for choice, options in product(choices, ({"download": download}, {})):
        try:
            return dataset(root=root, **choice, **options)
        except (TypeError, ValueError) as error:
            # If the data set lacks the split or an argument, the message names it. Words in paths do not count.
            words = "|".join(map(str, ("split", "train", "download", *choice.values())))
            if split != "train" and not re.search(rf"(?<![\w/\\])({words})(?![\w/\\])", str(error)):
                raise
            problems[str(choice)] = one_line(error)
        except (RuntimeError, OSError) as error:
            problem = f"no data set in {Path(root).absolute()} ({one_line(error)})"
            raise UserError(f"{problem}; give its folder with --data.root, or --data.download true") from None
    if split == "train":
        raise UserError(f"data.dataset accepts neither `split` nor `train` ({'; '.join(problems.values())})")
    return None


def read_labels(dataset: Any) -> Tensor:
    """Return the label of each image, Long[N]."""
    attributes = [vars(dataset)[name] for name in ("targets", "labels", "_labels") if name in vars(dataset)]
    labels = attributes[0] if attributes else [int(dataset[i][1]) for i in range(len(dataset))]
    return torch.as_tensor(np.asarray(labels)).long()


def _images_in_memory(dataset: Any) -> Tensor | None:
    """Return uint8 [N C H W] if the data set has its images in memory, as MNIST, CIFAR and SVHN do; else None."""
    data = vars(dataset).get("data")
    images = torch.as_tensor(data) if isinstance(data, (np.ndarray, Tensor)) else None
    if images is None or images.dtype != torch.uint8:
        return None
    if images.ndim == 3:
        return images[:, None]
    return images if images.shape[1] in (1, 3) else images.permute(0, 3, 1, 2).contiguous()
