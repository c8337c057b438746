"""Clones and their own checks: `python tests/cloning/clones.py` makes one of each task and one of two, and checks them.

They use the environment that this runs in. The first clone is given to pip, trains, and runs all of its quick tests.
The others must ask for nothing that the template does not ask for, and leave out the tests of what is in a clone before
them, file by file and byte by byte. Slow tests and notebooks are left out: the template runs them itself. As many
clones are checked at a time as there are cores. The exit code is 1 if a check has failed.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from kit.cloning.making import make
from kit.cloning.template import Template

TEMPLATE = Template(Path(__file__).resolve().parents[2])
NAME = "my_cells"
LAST_LINES = 60  # of a check that has failed
SMOKE = ("tests/kit/data", "tests/kit/training", "tests/kit/ground")  # of the library, as `make test` of a clone
OWN = (f"tests/{NAME}", "tests/end_to_end")  # the tests of the project's tasks
WALKING = [  # tests of all that is there
    f"tests/{NAME}/test_configs.py",
    *(f"tests/end_to_end/test_{part}.py" for part in ("house", "mistakes", "notebooks", "readme")),
]


def by_size() -> list[str]:
    """Return the tasks: first those whose own config needs no data, and of them the one with the least tests."""

    def size(task: str) -> tuple[bool, int]:
        needs_data = "root:" in (TEMPLATE.root / "configs" / f"{task}.yaml").read_text()
        tests = (TEMPLATE.root / "tests").glob(f"*/{task}/*.py")
        return needs_data, sum(file.stat().st_size for file in tests)

    return sorted(TEMPLATE.tasks, key=size)


def environment(clone: Path) -> dict[str, str]:
    """In which the clone's package is found, though it is not installed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "MAKE", "MFLAGS"))}
    return {**kept, "PYTHONPATH": str(clone / "src"), "OMP_NUM_THREADS": "1"}


def pytest(*parts: str) -> list[str]:
    """The command that runs the quick tests of some files and folders."""
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not slow", *parts]


def contents(clone: Path, part: str, without: Sequence[str] = ()) -> dict[str, bytes]:
    """Of a file, or of the files of a folder without those of some tasks."""
    there = [clone / part, *(clone / part).rglob("*")]
    files = (file for file in there if file.is_file() and "__pycache__" not in file.parts)
    names = {file: file.relative_to(clone) for file in files}
    return {str(name): file.read_bytes() for file, name in names.items() if not {*name.parts[:3]} & {*without}}


def requirements(folder: Path) -> set[str]:
    """What has to be installed for all of a project, itself aside."""
    table = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    needed = [*table["dependencies"], *chain.from_iterable(table["optional-dependencies"].values())]
    return {one for one in needed if not one.startswith(f"{table['name']}[")}


def has_same_task(clone: Path, other: Path, task: str) -> bool:
    folders = (f"src/{NAME}/{task}", *(f"{folder}/{task}" for folder in OWN))
    return all(contents(clone, folder) == contents(other, folder) for folder in folders)


def tests_left(clone: Path, tasks: Sequence[str], earlier: Mapping[Path, Sequence[str]]) -> list[str]:
    """The tests that have to run in a clone.

    Args:
        earlier: the clones before it, with their tasks. The first of them runs all of its tests.
    """
    if not earlier:
        return [*OWN, *SMOKE]
    first, tasks_of_first = next(iter(earlier.items()))
    if contents(clone, "src", without=tasks) != contents(first, "src", without=tasks_of_first):
        return [*OWN, *SMOKE]
    parts = [f"{own}/{part.name}" for own in OWN for part in sorted((clone / own).iterdir()) if part.name not in tasks]
    changed = [part for part in parts if part not in WALKING and contents(clone, part) != contents(first, part)]
    new = [task for task in tasks if not any(has_same_task(clone, other, task) for other in earlier)]
    folders = [f"{own}/{task}" for own in OWN for task in new if (clone / own / task).is_dir()]
    return [*WALKING, *changed, *folders]


def checks(tests: list[str], first: bool) -> dict[str, list[str]]:
    """What a clone must pass, by name; the first one more than the others."""
    tools = Path(sys.executable).parent
    short = [f"--trainer.{what}" for what in ("max_epochs=1", "limit_train_batches=5", "limit_val_batches=2")]
    once = {
        "pip": [sys.executable, "-m", "pip", "install", "--dry-run", "-c", "constraints.txt", "-e", ".[dev]"],
        "fit": [sys.executable, "-m", f"{NAME}.fit", *short],
    }
    return (once if first else {}) | {
        "ruff check": [str(tools / "ruff"), "check", "--no-cache"],
        "ruff format": [str(tools / "ruff"), "format", "--check", "--no-cache"],
        "mypy": [str(tools / "mypy")],
        "lint-imports": [str(tools / "lint-imports"), "--no-cache"],
        "test": pytest(*tests),
    }


def check(clone: Path, what: str, commands: Mapping[str, list[str]]) -> bool:
    """Run a clone's checks, until one fails."""
    variables = {**environment(clone), "MYPY_CACHE_DIR": str(TEMPLATE.root / ".mypy_cache")}  # what is known of torch
    for name, command in commands.items():
        started = time.monotonic()
        options = {"cwd": clone, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        ended = subprocess.run(command, env=variables, check=False, **options)
        good = ended.returncode == 0
        if name == "pip":  # it would install the clone itself, and nothing that it needs
            good = good and re.findall(r"^Would install (.+)$", ended.stdout, re.MULTILINE) == [f"{NAME}-0.1.0"]
        print(f"{what}: {name} {'passes' if good else 'FAILS'}, {time.monotonic() - started:.0f} s", flush=True)
        if not good:
            print("\n".join(ended.stdout.splitlines()[-LAST_LINES:]), flush=True)
            return False
    return True


def main() -> int:
    tasks = by_size()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=tasks, help="one clone, of these tasks")
    given = parser.parse_args()
    choices = [given.only] if given.only else [[task] for task in tasks] + [tasks[:2]]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as workers:
        clones: dict[Path, list[str]] = {}
        commands = []
        for chosen in choices:
            clone = Path(folder) / "+".join(chosen)
            make(TEMPLATE, clone, NAME, chosen)
            if more := requirements(clone) - requirements(TEMPLATE.root):
                sys.exit(f"the clone of {' and '.join(chosen)} asks for more than the template: {', '.join(more)}")
            commands.append(checks(tests_left(clone, chosen, clones), first=not clones))
            clones[clone] = chosen
        outcomes = list(workers.map(check, clones, [" and ".join(chosen) for chosen in choices], commands))
        return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
