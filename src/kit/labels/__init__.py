"""Images with class labels.

`evaluation` computes the metrics. `predictions` defines the prediction for an image, and writes, draws and exports it.
"""
