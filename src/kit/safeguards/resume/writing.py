"""Write checkpoints in a thread, so that training hardly waits and a killed run leaves complete files."""

import os
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from kit.ground.checkpoint_limits import require_uncompressed
from kit.ground.errors import one_line
from kit.ground.files import replacing
from kit.ground.memory import copy_to_cpu

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
KEY = "exact_resume"  # the key in a checkpoint under which `ExactResume` stores its values


class Writer(TorchCheckpointIO):
    """Copy a checkpoint while training waits, and write the copy in a thread.

    Training also waits while the previous checkpoint is still being written. If a file cannot be written, the old file
    stays, and the run prints a warning and continues.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._failed = False  # whether the latest file could not be written
        self._has_checked_last = False  # whether a `last.ckpt` of this run was checked

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        self._wait()
        content = copy_to_cpu(checkpoint)
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self._thread = threading.Thread(target=self._write, args=(content, Path(path)), daemon=True)
        self._thread.start()

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a file that the latest checkpoint replaces, unless the latest checkpoint could not be written."""
        self._wait()
        if not self._failed:
            super().remove_checkpoint(path)

    def teardown(self) -> None:
        """Wait until the last file is written."""
        self._wait()

    def _wait(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _write(self, content: Any, path: Path) -> None:
        self._failed = False
        try:
            write(content, path)
            if path.name == LAST and not self._has_checked_last:
                self._has_checked_last = True
                if why := find_damage(path):  # for example, torch refuses to load some objects that it saves
                    print(f"warning: --resume rejects {path} ({why})", file=sys.stderr, flush=True)
        except Exception as error:  # a full disk is a RuntimeError in torch, and pickling an object may raise anything
            self._failed = True
            cause = error.__cause__ or error
            why = (cause.strerror if isinstance(cause, OSError) else None) or one_line(cause)
            message = f"warning: {path} could not be written ({why}); the old file stays, and training goes on"
            print(message, file=sys.stderr, flush=True)


def write(content: Any, path: Path) -> None:
    """Write a checkpoint to a temporary file, flush it to the disk and rename it. An old `LAST` becomes `PREVIOUS`.

    Raises:
        UserError, RuntimeError: the file cannot be written. The old file still exists, as `path` or as `PREVIOUS`.
    """
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        if path.name == LAST and path.exists():
            path.replace(path.with_name(PREVIOUS))


def find_damage(file: Path) -> str | None:
    """Return a description of the damage to a checkpoint file, or None if the file is intact.

    The files of `torch.save` are zip files. The function compares the CRC-32 of each member. Then it lets torch open
    the file without reading the tensors, since torch checks more headers than Python. A member with attributes
    counts as damaged as well: torch never writes them, and could return uninitialised memory for this member.
    """
    try:
        require_uncompressed(file)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            bad = archive.testzip() or next((member.filename for member in members if member.external_attr), None)
        if bad is None:
            torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # the file may hold any bytes, and zipfile raises exceptions of all kinds
        return one_line(error)
    return None if bad is None else f"its member {bad} is damaged"
