"""What the tests of a slice offer to those that walk over all slices."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def tiny(task: str) -> ModuleType:
    """`tests/project/TASK/tiny.py`: `arguments(run, folder)` and `METRIC`."""
    name = f"{task}_tiny"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / task / "tiny.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # where dataclasses look their module up
        spec.loader.exec_module(module)
    return sys.modules[name]
