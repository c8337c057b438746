"""Files that are whole or absent."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A place beside `file` to write to, which takes its name at the end, if nothing was raised; folders are made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part{os.getpid()}_{threading.get_ident()}")
    try:
        yield part
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
