"""Images that a model generates, and images that it paints in a style.

`images` has the base class of their data modules, noise by seed, and conversions. `evaluation` has the metrics, and
`comparison` compares generated images with real ones in the features of a `judge` or of `inception`. `features` are for
the losses of a style. `predictions` writes files, `pictures` draws, and `exported` has the modules to export.
"""

from kit.samples.features import ClassifierFeatures, TorchvisionFeatures
from kit.samples.images import SignedImages

__all__ = ["ClassifierFeatures", "SignedImages", "TorchvisionFeatures"]
