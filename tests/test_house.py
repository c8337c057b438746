"""The house stands as its plan says: who imports whom (the contracts are checked by `make lint`), and what can go."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "src/project"
ROOT = Path(__file__).resolve().parent.parent
SLICES = sorted(task.parent.name for task in (ROOT / PACKAGE).glob("*/task.py"))


def test_the_package_itself_imports_nothing_heavy():
    code = "import project, sys; print([name for name in ('torch', 'lightning', 'numpy') if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_nobody_imports_a_slice():
    for file in (ROOT / PACKAGE).rglob("*.py"):
        own = file.relative_to(ROOT / PACKAGE).parts[0]
        imported = re.findall(r"^\s*(?:from|import) project\.(\w+)", file.read_text(), re.MULTILINE)
        assert not (set(imported) & set(SLICES)) - {own}, file


@pytest.mark.slow
@pytest.mark.parametrize("name", SLICES)
def test_the_rest_stands_without_a_slice(name, tmp_path):
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns(name, "__pycache__", "*.egg-info"))
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, tmp_path)
    code = "import project.cli, project.pipeline, project.checkpoint; print(project.__file__)"
    environment = {"PYTHONPATH": str(tmp_path / "src"), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", code]
    assert str(tmp_path) in subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)
    tool = Path(sys.executable).with_name("lint-imports")
    ended = subprocess.run([tool, "--no-cache"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
