"""Decide whether a run overfits, underfits or fits well.

Read `verdict.py` first: its pure functions decide from the scores and their margins of error. `callback.py` scores
training images in the same way as validation images, and logs the gap. `advice.py` makes suggestions.
"""
