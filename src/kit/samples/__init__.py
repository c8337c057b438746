"""Images that a model generates, and images that it paints in a style.

`images` holds the data module, noise and pixels. `comparison` compares samples with real images for the report, with
the distances of `evaluation` in the features of a `judge` or of `inception`. `features` are for the losses of a style.
`predictions` writes files, `pictures` draws, and `exported` has the modules to export.
"""

from kit.samples.features import ClassifierFeatures, TorchvisionFeatures
from kit.samples.images import Centred

__all__ = ["Centred", "ClassifierFeatures", "TorchvisionFeatures"]
