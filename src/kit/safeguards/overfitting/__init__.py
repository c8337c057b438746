"""The verdict: whether a run overfits, underfits or fits well.

Read `verdict.py` first: pure functions that decide, with margins of error. `callback.py` measures training images in
the same way as validation images, and logs the gap. `advice.py` suggests what to try.
"""
