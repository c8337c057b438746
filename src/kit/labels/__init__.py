"""Images with class labels.

`evaluation` computes the metrics. `predictions` has what a trained classifier gives: the prediction of an image, the
file of predictions, the picture and the module to export.
"""
