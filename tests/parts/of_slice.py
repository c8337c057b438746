"""What the tests of a slice offer to those that walk over all slices."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def tiny(config: Path) -> ModuleType:
    """`tests/SLICE/tiny.py` of the config's slice: `arguments(run, folder)` and `METRIC`."""
    name = config.stem.split("_")[0]
    spec = importlib.util.spec_from_file_location(f"{name}_tiny", Path(__file__).parent.parent / name / "tiny.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    return module
