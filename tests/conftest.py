"""Tiny data and tiny runs. Every test runs in a folder of its own, so that nothing is written into the checkout."""

import gc
import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.append(str(REPOSITORY / "tests" / "kit" / "parts"))
RANKS = pytest.StashKey[Callable[..., CompletedProcess]]()
os.environ["OMP_NUM_THREADS"] = "1"
settings.register_profile("slow machines", deadline=None)
settings.load_profile("slow machines")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what it starts in the background ignore Ctrl-C
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup` has its commands ignore it


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def parts_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the packages of the tests, as `--trust` does. A process that a test starts needs the option."""
    from kit.checkpoints import trust

    monkeypatch.setattr(trust, "PACKAGES", (*trust.PACKAGES, "tiny_task", "restless_task", "poison", "small_memory"))


@pytest.fixture(scope="session", autouse=True)
def one_parser() -> Iterator[None]:
    """The parser of `fit` is made once in a process, since making it takes a fifth of a tiny run."""
    from kit.cli.command_line import CLI
    from kit.ground import app

    set_up, parsers = CLI.setup_parser, {}

    def set_up_once(cli: CLI, *args: object) -> None:
        if cli.base is not None:  # its defaults are those of a checkpoint
            set_up(cli, *args)
        elif parser := parsers.get((type(cli), app.package)):
            cli.parser = parser
        else:
            set_up(cli, *args)
            parsers[type(cli), app.package] = cli.parser

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CLI, "setup_parser", set_up_once)
        yield


@pytest.fixture(autouse=True)
def blank_charts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are blank, since drawing them takes half of a tiny run; those of the tests of dashboards are drawn."""
    import torch

    from kit.dashboard import pictures, report_page

    if "dashboard" not in str(request.path.relative_to(REPOSITORY)):
        for module in (pictures, report_page):
            monkeypatch.setattr(module, "draw_chart", lambda _: torch.zeros(3, 8, 9, dtype=torch.uint8))


@pytest.fixture
def repository() -> Path:
    return REPOSITORY


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Fork the server of `ranks` before the first test."""
    gc.freeze()  # what was imported stays
    if any("ranks" in item.fixturenames for item in session.items if isinstance(item, pytest.Function)):
        from ranks import fork

        session.config.stash[RANKS] = fork()


@pytest.fixture
def ranks(request: pytest.FixtureRequest) -> Callable[..., CompletedProcess]:
    """Runs a module or a file, with its arguments, in two processes that train together: see `ranks.py`."""
    return request.config.stash[RANKS]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[], object]], Path]:
    """Makes a folder once for all processes that run tests: `once(name, make)` calls `make()` in it and returns it.

    Nobody changes what is in it: a test that would takes a copy.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of all processes

    def get(name: str, make: Callable[[], object]) -> Path:
        folder, made = root / "once" / name, root / "once" / f"{name}.made"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")), pytest.MonkeyPatch.context() as patch:
            if not made.exists():
                patch.chdir(folder)
                make()
                made.touch()
        return folder

    return get


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Callable[..., CompletedProcess]:
    """Runs a verb of the application in this process, which has imported everything: its exit code and its output."""
    from kit.cli import process
    from kit.ground import app

    def run(verb: str, *words: str) -> CompletedProcess:
        capfd.readouterr()
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr(sys, "argv", [verb, *words])
            patch.setattr(process, "prepare", lambda: (gc.enable(), process.quiet()))  # this process goes on
            runpy.run_module(f"{app.package}.{verb}", run_name="__main__")
        return CompletedProcess(words, ended.value.code, *capfd.readouterr())

    return run


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., Path]:
    """Runs the verb `fit` in this process and returns the run's folder."""
    from kit.cli import process, verbs

    def run(*args: str) -> Path:
        process.quiet()
        verbs.fit(list(args))
        return max((tmp_path / "runs").glob("*/version_*"), key=lambda folder: folder.stat().st_mtime_ns)

    return run


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes `root/[SPLIT/]CLASS/N.png`, random pixels with a class's own brightness, and returns root."""

    def make(counts: dict[str, dict[str, int]], size: tuple[int, int] = (12, 10), grey: bool = False) -> Path:
        root, random = tmp_path / "photos", np.random.default_rng(0)
        for split, classes in counts.items():
            for place, (name, count) in enumerate(classes.items()):
                folder = root / split / name
                folder.mkdir(parents=True)
                for number in range(count):
                    shape = size if grey else (*size, 3)
                    pixels = random.integers(0, 100, shape) + 100 * place
                    Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        return root

    return make
