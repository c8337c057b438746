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
    if sys.argv[0] == "-m":  # `python -m PACKAGE.VERB` imports the package first, and libraries take seconds
        signals.listen(signals.end_at_once)


def command(verb: str) -> str:
    """Return the shell command of a verb, such as `.venv/bin/python -m PACKAGE.fit`, with the interpreter that runs."""
    folder = f"{Path.cwd()}{os.sep}"
    python = sys.executable.removeprefix(folder)
    if python == shutil.which("python"):
        python = "python"
    return f"{shlex.quote(python)} -m {package}.{verb}"
