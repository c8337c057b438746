"""Decoded and resized images, kept: as one uint8 tensor in memory, or as one memory-mapped file on disk."""

import hashlib
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor
from tqdm import tqdm

from kit.data.samples import Files, Samples, Tensors
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.files import replacing
from kit.ground.reading import require_regular
from kit.ground.threads import cores

MARK = b"uint8 images of the project, 1"  # with the version of the format
PIECES, PIECE_BYTES = 64, 4096  # the checksum covers so many pieces of a cache file, of so many bytes


def in_memory(samples: Samples, what: str = "images") -> Tensors:
    """All images read, files with a thread for each core (decoding releases Python's lock)."""
    images = _channels_last(torch.empty(_shape(samples), dtype=torch.uint8))
    _fill(images, samples, what)
    return Tensors(samples.targets, images, _paths(samples), groups=samples.groups)


def on_disk(samples: Samples, folder: Path, what: str = "images") -> Tensors:
    """The same in a file of `folder`, which is read back as long as no source file has changed.

    The file is written under another name and then renamed. It ends with a seal; if that does not fit, the file is
    written again.
    """
    if not isinstance(samples, Files):
        raise UserError("data.cache disk needs image files; use ram, or none")
    shape = _shape(samples)
    file = folder / f"{_fingerprint(samples)}.uint8"
    size = int(torch.tensor(shape).prod())
    if not _is_sound(file, size):
        with replacing(file) as part:
            images = torch.from_file(str(part), shared=True, size=size, dtype=torch.uint8).view(shape)
            _fill(_channels_last(images), samples, what)
            with part.open("r+b") as stream:
                seal = _seal(stream, size)
                stream.seek(size)
                stream.write(seal)
    images = torch.from_file(str(file), shared=False, size=size, dtype=torch.uint8).view(shape)
    return Tensors(samples.targets, _channels_last(images), samples.paths, groups=samples.groups)


def _is_sound(file: Path, size: int) -> bool:
    """Return whether a cache file is as it was written, judged by its length, its seal and some of its pixels.

    Raises:
        UserError: it is not a regular file, or cannot be read.
    """
    try:
        length = require_regular(file)
        with file.open("rb") as stream:
            seal = _seal(stream, size)
            stream.seek(size)
            sound = length == size + len(seal) and stream.read() == seal
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}; remove it, or give another --data.cache_dir") from None
    if not sound:
        print(f"{file} is cut off or damaged, and is written again", flush=True)
    return sound


def _seal(stream: BinaryIO, size: int) -> bytes:
    """Return the bytes that follow `size` bytes of pixels: a mark, and a checksum of some evenly spaced pieces."""
    checksum = 0
    for piece in range(PIECES):
        stream.seek(piece * max(0, size - PIECE_BYTES) // (PIECES - 1))
        checksum = zlib.crc32(stream.read(min(PIECE_BYTES, size)), checksum)
    return b"%s %d %08x\n" % (MARK, size, checksum)


def _fill(images: Tensor, samples: Samples, what: str) -> None:
    broken: list[str] = []

    def one(index: int) -> None:
        try:
            images[index] = samples.read(index)
        except BrokenFiles as error:
            broken.append(str(error))

    # Somebody else's data set may keep one open file, or a state.
    threads = cores() if isinstance(samples, Files) else 1
    with ThreadPoolExecutor(threads) as pool:
        hidden = not sys.stderr.isatty()
        for _ in tqdm(pool.map(one, range(len(samples))), f"reading {what}", len(samples), disable=hidden, leave=False):
            pass
    if broken:
        listed = "\n  ".join(sorted(broken)[:10])
        more = f"\n  and {len(broken) - 10} more" if len(broken) > 10 else ""
        raise BrokenFiles(
            f"{len(broken)} of {len(samples)} images cannot be read; repair or remove them:\n  {listed}{more}"
        )


def _shape(samples: Samples) -> tuple[int, ...]:
    """[N H W C], as files are decoded."""
    channels, height, width = samples.shape
    return len(samples), height, width, channels


def _channels_last(images: Tensor) -> Tensor:
    """[N H W C] seen as [N C H W]."""
    return images.permute(0, 3, 1, 2)


def _paths(samples: Samples) -> list[Path] | None:
    return list(samples.paths) if isinstance(samples, Files) else None


def _fingerprint(samples: Files) -> str:
    digest = hashlib.sha256(repr((type(samples).__qualname__, samples.shape, *samples.reading)).encode())
    for path in samples.sources:
        try:
            stat = path.stat()
        except FileNotFoundError:
            raise BrokenFiles(f"{path}: no such file") from None
        line = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))  # a file's name may be bytes that are not UTF-8
    return digest.hexdigest()[:32]
