"""Use a trained model: from Python with `load`, or on the command line with `predict`.

`predictor` defines `load` and the `Predictor` that it returns. `command` is the verb `predict`.
"""

from kit.prediction.command import predict
from kit.prediction.predictor import Predictor, load

__all__ = ["Predictor", "load", "predict"]
