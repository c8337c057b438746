"""Must never be imported."""

from pathlib import Path

Path("touched").touch()


def net(*args, **kwargs):
    return 1
