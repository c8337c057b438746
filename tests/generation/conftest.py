import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def tiny() -> ModuleType:
    """The functions of `tiny.py`."""
    spec = importlib.util.spec_from_file_location("tiny_generation", Path(__file__).with_name("tiny.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
