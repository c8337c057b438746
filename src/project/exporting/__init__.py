"""Taking a trained model elsewhere: files that need neither this project nor, but for pt2, PyTorch."""

from project.exporting.command import export

__all__ = ["export"]
