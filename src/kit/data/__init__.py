"""Data modules: read, split, cache, sample, augment and batch the images of any task.

Read in this order: `decode` and `levels` turn a file into a uint8 tensor; `preprocessing` describes how an image
becomes the net's input; `samples` holds the images and targets of a split, and defines `Batch`; `cache` keeps decoded
images; `broken` finds files that cannot be decoded; `splitting` splits samples; `loading` picks and makes batches;
`contents` has what each data module defines, and `datamodule` puts all of these together in `ImageDataModule`, the base
class of every data module. `digits` and `torchvision_data` are such data modules, and `augment` has transforms that
keep an image's size.
"""

from kit.data.augment import RandomShift, RandomZoomIn
from kit.data.datamodule import ImageDataModule
from kit.data.preprocessing import Preprocessing
from kit.data.samples import Batch, Files, Samples, Tensors

__all__ = ["Batch", "Files", "ImageDataModule", "Preprocessing", "RandomShift", "RandomZoomIn", "Samples", "Tensors"]
