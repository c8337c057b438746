"""Taking a trained model elsewhere: files that need neither the project nor, but for pt2, PyTorch."""

from kit.exporting.command import export

__all__ = ["export"]
