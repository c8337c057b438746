"""Writing checkpoints so that training hardly waits and a kill at any moment leaves whole files."""

import copy
import os
import queue
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor

from kit.ground.checkpoint_limits import require_stored
from kit.ground.errors import one_line

LAST, PREVIOUS, PART = "last.ckpt", "previous.ckpt", ".part"


class Writer(TorchCheckpointIO):
    """Copies a checkpoint while training waits, and writes the copy in a thread.

    A file is written beside its place, flushed to the disk and renamed; a new `last.ckpt` leaves the one before it as
    `previous.ckpt`. What cannot be written is said, replaces nothing and stops nothing.

    There are two sets of memory, since the best weights may come while the last ones are still being written; the
    second is taken only then.
    """

    def __init__(self) -> None:
        self._free = _two_memories()
        self._jobs: queue.Queue[tuple[Any, Path, Memory] | None] = queue.Queue()  # None ends the thread
        self._thread: threading.Thread | None = None
        self._proven = False

    @property
    def busy(self) -> bool:
        return self._jobs.unfinished_tasks > 0

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        memory = self._free.get()
        self._jobs.put((memory.copy_of(checkpoint), Path(path), memory))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()

    def teardown(self) -> None:
        """Wait until each file is on the disk or its failure is said, then end the thread and free the memory."""
        self._jobs.join()
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
            self._free = _two_memories()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            content, path, memory = job
            try:
                write(content, path)
                if path.name == LAST and not self._proven:
                    self._prove(path)
            except Exception as error:  # a full disk is a RuntimeError of torch's at times; a state may be anything
                why = getattr(error, "strerror", None) or one_line(error)
                told = f"warning: {path} could not be written ({why}); what was there is kept, training goes on"
                print(told, file=sys.stderr, flush=True)
            finally:
                self._free.put(memory)
                self._jobs.task_done()
        self._jobs.task_done()

    def _prove(self, path: Path) -> None:
        """Once, that the file can be read back: a callback's or a schedule's state may be more than plain values."""
        self._proven = True
        if why := damage(path):
            print(f"warning: --resume will not take {path} ({why})", file=sys.stderr, flush=True)


class Memory:
    """Memory for a copy of a checkpoint, kept for the next one: the first use of new memory takes six times as long."""

    def __init__(self) -> None:
        self._kept: list[Tensor] = []

    def copy_of(self, content: Any) -> Any:
        """All of it as it is now, tensors on the CPU, and those that share memory still sharing it."""
        used: list[Tensor] = []
        copied = self._copy(content, used, {})
        self._kept = used
        if any(tensor.is_pinned() for tensor in used):
            torch.cuda.synchronize()  # they are copied side by side
        return copied

    def _copy(self, value: Any, used: list[Tensor], known: dict[Any, Tensor]) -> Any:
        if isinstance(value, Tensor):
            key = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
            if key not in known or not value.numel():
                known[key] = self._filled(value.detach(), len(used))
                used.append(known[key])
            return known[key]
        if isinstance(value, dict):
            copied = copy.copy(value)  # of its own class, and with the versions that a state_dict carries beside it
            for key, entry in value.items():
                copied[key] = self._copy(entry, used, known)
            return copied
        if isinstance(value, list):
            return [self._copy(entry, used, known) for entry in value]
        if type(value) is tuple:
            return tuple(self._copy(entry, used, known) for entry in value)
        return value

    def _filled(self, source: Tensor, place: int) -> Tensor:
        kept = self._kept[place] if place < len(self._kept) else None
        alike = kept is not None and (kept.shape, kept.dtype, kept.stride()) == (
            source.shape,
            source.dtype,
            source.stride(),
        )
        if kept is None or not alike:
            kept = torch.empty_like(source, device="cpu", pin_memory=source.is_cuda)
        return kept.copy_(source, non_blocking=source.is_cuda)


def _two_memories() -> "queue.LifoQueue[Memory]":
    memories: queue.LifoQueue[Memory] = queue.LifoQueue()
    for _ in range(2):
        memories.put(Memory())
    return memories


def write(content: Any, path: Path) -> None:
    """
    Raises:
        OSError, RuntimeError: it cannot be written; what was at `path` is still there.
    """
    part = path.with_name(path.name + PART)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        if path.name == LAST and path.exists():
            _keep(path, path.with_name(PREVIOUS))
        part.replace(path)
        _flush_folder(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)  # on a full disk it would be in the way of everything else
        raise


def _keep(path: Path, previous: Path) -> None:
    """Under a second name first, so that there is a `path` at every moment."""
    beside = previous.with_name(previous.name + PART)
    beside.unlink(missing_ok=True)
    try:
        os.link(path, beside)
        beside.replace(previous)
    except OSError:  # a file system without a second name for a file
        path.replace(previous)


def _flush_folder(folder: Path) -> None:
    """The names too; Windows does not open folders, and needs no such thing."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def damage(file: Path) -> str | None:
    """What is wrong with a checkpoint file; None if it is what was written.

    torch.save's files are zip files, which hold a CRC-32 of each of their parts: all are compared. Then torch opens it,
    without reading the tensors, since it minds more of a zip file's headers than Python does. A part whose attributes
    (torch writes none) make it a folder it does not read: the tensor is what the memory held before.
    """
    try:
        require_stored(file)
        with zipfile.ZipFile(file) as archive:
            part = archive.testzip()
            part = part or next((p.filename for p in archive.infolist() if p.external_attr), None)
        if part is None:
            torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # any bytes may be read here, and zipfile's errors are of all kinds
        return one_line(error)
    return None if part is None else f"its part {part} is not what was written"
