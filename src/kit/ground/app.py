"""Store the name of the application that uses this library.

The application is a package with one module for each verb (command), such as `fit`. Its `__init__.py` calls `use`.
"""

import os
import shlex
import shutil
import sys
from pathlib import Path

from kit.ground import signals

package = "PACKAGE"


def use(name: str) -> None:
    """Set the name of the application's package. Checkpoints may refer to classes of this package."""
    global package
    package = name
    if sys.argv[0] == "-m":  # `python -m PACKAGE.VERB` will import libraries for seconds; let signals end it meanwhile
        signals.listen(signals.end_at_once)


def python() -> str:
    """Return the shell command of this Python interpreter, such as `python` or `.venv/bin/python`."""
    interpreter = sys.executable.removeprefix(f"{Path.cwd()}{os.sep}")
    return shlex.quote("python" if interpreter == shutil.which("python") else interpreter)


def command(verb: str) -> str:
    """Return the shell command of a verb, such as `.venv/bin/python -m PACKAGE.fit`."""
    return f"{python()} -m {package}.{verb}"
