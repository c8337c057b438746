"""Tests of the project's own tasks and configs."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent / "parts"))

from fixtures import application, fit, tiny, tiny_run  # noqa: F401
