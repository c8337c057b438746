"""Tests that drive the commands, the files and the documentation with the project's own tasks."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path += [str(TESTS / "project" / "parts"), str(TESTS / "end_to_end" / "parts")]

from fixtures import application, fit, tiny, tiny_run  # noqa: E402, F401
