"""Using a trained model: from Python (`load`) and on the command line (`predict`)."""

from kit.prediction.command import predict
from kit.prediction.predictor import Predictor, load

__all__ = ["Predictor", "load", "predict"]
