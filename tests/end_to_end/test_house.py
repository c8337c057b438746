"""The house stands as its plan says. `make lint` checks who imports whom, and the clones that a task can go."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import project

PACKAGE = "src/project"
ROOT = Path(__file__).resolve().parents[2]
SLICES = sorted(task.parent.name for task in (ROOT / PACKAGE).glob("*/task.py"))


def test_package_imports_nothing_heavy():
    code = "import project, sys; print([name for name in ('torch', 'lightning', 'numpy') if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("library", ["kit/__init__.py", "kit.py"])
def test_other_library_is_refused(library, tmp_path):
    (tmp_path / library).parent.mkdir(exist_ok=True)
    (tmp_path / library).touch()
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "src")])}
    ended = subprocess.run([sys.executable, "-m", "project.fit"], env=paths, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(rf"error: {project.__name__} needs the library \S+, but Python finds .+: .+\n", ended.stderr)


def test_prediction_imports_neither_guards_nor_dashboard():
    code = "import sys, kit.prediction; print(*{'.'.join(name.split('.')[:2]) for name in sys.modules})"
    imported = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "kit.checkpoints" in imported
    assert not {"kit.safeguards", "kit.dashboard", "kit.cli", "tensorboard"} & {*imported}


def test_no_slice_imports_another():
    for file in (ROOT / PACKAGE).rglob("*.py"):
        own = file.relative_to(ROOT / PACKAGE).parts[0]
        imported = re.findall(r"^\s*(?:from|import) project\.(\w+)", file.read_text(), re.MULTILINE)
        assert not (set(imported) & set(SLICES)) - {own}, file
