"""Images with class labels.

`evaluation` computes the metrics of images with one label, and of images with several labels. `curves` computes
precision-recall curves and reliability diagrams. `features` computes the metrics of features that were learned without
labels. `predictions` defines the prediction for an image, and writes, draws and exports it.
"""
