"""Data modules: read, split, cache, sample, augment and batch the images of any task.

Read in this order: `decode` and `levels` turn a file into a uint8 tensor. `preprocessing` turns an image into the net's
input. `samples` defines `Samples`, the images and targets of a split, and `Batch`. `reading` finds files that cannot
be decoded, and stores decoded images. `splitting` splits samples. `loading` makes batches. `contents` has the methods
that each data module defines, and `description` describes the data. `image_size` chooses a size for images.
`datamodule` combines all of these in `ImageDataModule`, the base class of every data module. `digits` and
`torchvision_data` define data modules. `augment` has transforms that keep an image's size.
"""

from kit.data.augment import RandomShift, RandomZoomIn
from kit.data.datamodule import ImageDataModule
from kit.data.preprocessing import Preprocessing
from kit.data.samples import Batch, Files, Samples, Tensors

__all__ = ["Batch", "Files", "ImageDataModule", "Preprocessing", "RandomShift", "RandomZoomIn", "Samples", "Tensors"]
