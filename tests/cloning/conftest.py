import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def clones() -> ModuleType:
    """The functions of `clones.py`."""
    spec = importlib.util.spec_from_file_location("clones", Path(__file__).with_name("clones.py"))
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
