"""The project's own tasks and configs."""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType

import pytest

import project
from kit.ground import app

TESTS = Path(__file__).resolve().parent
CONFIGS = TESTS.parents[1] / "configs"
sys.path.append(str(TESTS / "parts"))


@pytest.fixture(autouse=True)
def application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "package", project.__name__)


@pytest.fixture(scope="module")
def tiny(request: pytest.FixtureRequest) -> ModuleType:
    """`tiny.py` of the test's folder."""
    from of_slice import tiny

    return tiny(request.path.parent.name)


@pytest.fixture
def tiny_run(request: pytest.FixtureRequest, once: Callable[[str, Callable[[], object]], Path]) -> Path:
    """The run of a task's own config with `RUN` of its `tiny.py`, made once; what it printed is in `printed.txt`."""
    from of_slice import tiny

    from kit.cli import process, verbs

    task = request.path.parent.name
    config = CONFIGS / f"{task}.yaml"

    def make() -> None:
        process.quiet()
        with Path("printed.txt").open("w") as file, redirect_stdout(file):
            verbs.fit(["--config", str(config), *tiny(task).RUN])
        Path("printed.txt").rename(Path("runs") / task / "version_0" / "printed.txt")

    return once(task, make) / "runs" / task / "version_0"


@pytest.fixture
def fit(request: pytest.FixtureRequest, fit: Callable[..., Path]) -> Callable[..., Path]:
    """Runs `project.fit` in this process and returns the run's folder; by default with the task's own config."""

    def run(*args: str) -> Path:
        config = CONFIGS / f"{request.path.parent.name}.yaml"
        given = [] if {"--config", "--resume"} & set(args) else ["--config", str(config)]
        return fit(*given, *args)

    return run
