"""A clone's own tests run beside the template's, from the first test to the last."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def clones():
    """The module `clones.py` beside this file."""
    spec = importlib.util.spec_from_file_location("clones", Path(__file__).with_name("clones.py"))
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def smallest(clones, tmp_path_factory):
    """Its folder, and the process that runs its tests."""
    folder = tmp_path_factory.mktemp("smallest")
    with clones.started(folder, clones.by_size()[:1]) as process:
        yield folder, process


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for test, place in (("test_a_clone_begins_its_own_tests", 0), ("test_a_clones_own_tests_pass", len(items))):
        for item in [item for item in items if item.name == test]:
            items.remove(item)
            items.insert(place, item)
