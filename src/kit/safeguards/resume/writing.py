"""Write checkpoints so that training hardly waits and a kill at any moment leaves whole files."""

import os
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from kit.ground.checkpoint_limits import require_stored
from kit.ground.errors import one_line
from kit.ground.files import replacing
from kit.ground.host_memory import HostMemory

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
KEY = "exact_resume"  # of what `ExactResume` stores in a checkpoint


class Writer(TorchCheckpointIO):
    """Copy a checkpoint while training waits, and write the copy in a thread.

    If the checkpoint before it is still being written, training waits for that too. A file that cannot be written is
    reported, and neither replaces the old one nor stops the run.
    """

    def __init__(self) -> None:
        self._memory = HostMemory()
        self._thread: threading.Thread | None = None
        self._is_checked = False

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if self._thread is not None:
            self._thread.join()
        content = self._memory.copy(checkpoint)
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self._thread = threading.Thread(target=self._write, args=(content, Path(path)), daemon=True)
        self._thread.start()

    def teardown(self) -> None:
        """Wait until the last file is on the disk or reported, and free the memory."""
        if self._thread is not None:
            self._thread.join()
        self._thread, self._memory = None, HostMemory()

    def _write(self, content: Any, path: Path) -> None:
        try:
            write(content, path)
            if path.name == LAST and not self._is_checked:
                self._is_checked = True
                if why := damage(path):  # the state of a callback or a schedule may hold more than plain values
                    print(f"warning: --resume will not take {path} ({why})", file=sys.stderr, flush=True)
        except Exception as error:  # torch reports a full disk as a RuntimeError, and any object may be in a state
            why = (error.strerror if isinstance(error, OSError) else None) or one_line(error)
            message = f"warning: {path} could not be written ({why}); the old file is kept, and training goes on"
            print(message, file=sys.stderr, flush=True)


def write(content: Any, path: Path) -> None:
    """Write a checkpoint beside its path, flush it to the disk and rename it. The old `last.ckpt` becomes `PREVIOUS`.

    Raises:
        OSError, RuntimeError: the file cannot be written. What was at `path` is still there.
    """
    with replacing(path) as part:
        with part.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        if path.name == LAST and path.exists():
            path.replace(path.with_name(PREVIOUS))


def damage(file: Path) -> str | None:
    """Return what is wrong with a checkpoint file; None if it is what was written.

    The files of `torch.save` are zip files with a CRC-32 of each part, and all of these are compared. Then torch opens
    the file without reading the tensors, since it checks more of a zip file's headers than Python does. Torch does not
    read a part whose attributes make it a folder (torch sets none), and returns uninitialised memory for its tensor.
    """
    try:
        require_stored(file)
        with zipfile.ZipFile(file) as archive:
            part = archive.testzip() or next((p.filename for p in archive.infolist() if p.external_attr), None)
        if part is None:
            torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # the file may hold any bytes, and zipfile raises exceptions of all kinds
        return one_line(error)
    return None if part is None else f"its part {part} is not what was written"
