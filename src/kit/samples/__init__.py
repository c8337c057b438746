"""Images that a model generates from noise (samples), and photographs that a model paints in a style.

`images` has the base class of the data modules of both tasks, noise for given seeds, conversions and pictures.
`evaluation` has the metrics. `comparison` compares samples with real images, in the features of the classifier in
`judge`. `features` has the nets whose features the losses of style transfer compare.
`predictions` writes files, and has the modules to export.
"""

from kit.samples.features import ClassifierFeatures, TimmFeatures
from kit.samples.images import SignedImages

__all__ = ["ClassifierFeatures", "SignedImages", "TimmFeatures"]
