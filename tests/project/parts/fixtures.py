"""Fixtures for the project's own tasks and configs."""

import importlib.util
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType

import pytest

import project
from kit.ground import app

TESTS = Path(__file__).resolve().parents[1]
CONFIGS = TESTS.parents[1] / "configs"


def tiny_of(task: str) -> ModuleType:
    """Return `tests/project/TASK/tiny.py`, which has `arguments(run, folder)` and `METRIC`."""
    name = f"{task}_tiny"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, TESTS / task / "tiny.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up there
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(autouse=True)
def application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "package", project.__name__)


@pytest.fixture(scope="module")
def tiny(request: pytest.FixtureRequest) -> ModuleType:
    """`tiny.py` of the task that the test's folder is named after."""
    return tiny_of(request.path.parent.name)


@pytest.fixture
def tiny_run(request: pytest.FixtureRequest, once: Callable[[str, Callable[[], object]], Path]) -> Path:
    """A run of the task's own config with `RUN` of its `tiny.py`, made once. `printed.txt` has what it printed."""
    from kit.cli import process, verbs

    task = request.path.parent.name

    def make() -> None:
        process.quiet()
        with Path("printed.txt").open("w") as file, redirect_stdout(file):
            verbs.fit(["--config", str(CONFIGS / f"{task}.yaml"), *tiny_of(task).RUN])
        Path("printed.txt").rename(Path("runs") / task / "version_0" / "printed.txt")

    return once(task, make) / "runs" / task / "version_0"


@pytest.fixture
def fit(request: pytest.FixtureRequest, fit: Callable[..., Path]) -> Callable[..., Path]:
    """Run `project.fit` in this process and return the run's folder; by default with the task's own config."""

    def run(*args: str) -> Path:
        config = CONFIGS / f"{request.path.parent.name}.yaml"
        given = [] if {"--config", "--resume"} & set(args) else ["--config", str(config)]
        return fit(*given, *args)

    return run
