"""Using a trained model: from Python (`load`) and on the command line (`python -m project.predict`)."""

from project.prediction.command import predict
from project.prediction.predictor import Predictor, load

__all__ = ["Predictor", "load", "predict"]
