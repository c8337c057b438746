"""Images with class labels.

`evaluation` computes the metrics of images with one label, and of images with several labels. `predictions` defines
the prediction for an image, and writes, draws and exports it.
"""
