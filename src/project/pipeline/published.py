"""Data sets that torchvision knows, as samples."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import VisionDataset

from project import UserError
from project.pipeline.samples import Indexed, Samples, Tensors


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
                where, why = Path(root).absolute(), (str(error).splitlines() or [type(error).__name__])[0]
                raise UserError(f"no data set in {where} ({why}); give its folder with --data.root") from None
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
