"""Decide on the verdict about a run: whether it overfits, underfits or fits well.

Read `verdict.py` first: its functions decide from the scores of training and validation images and the margins of error
of these scores, and make suggestions for the next run. `callback.py` scores training images in the same way as
validation images, and logs the gap between the two scores.
"""
