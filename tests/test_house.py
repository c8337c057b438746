"""The house stands as its plan says. `make lint` checks who imports whom, and the clones that a task can go."""

import re
import subprocess
import sys
from pathlib import Path

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
