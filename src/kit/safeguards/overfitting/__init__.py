"""The verdict: whether a run overfits, underfits or fits well.

Read `verdict.py` first: pure functions that decide, with the size of the error. `callback.py` measures training images
as validation measures its own, and logs the gap. `advice.py` says what to try.
"""
