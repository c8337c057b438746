"""Cache decoded and resized images, as one uint8 tensor in memory or as one memory-mapped file on disk."""

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
from kit.ground.files import replacing, require_regular
from kit.ground.threads import available_cores

MARK = b"uint8 images of the project, 1"  # with the version of the format
PIECES, PIECE_BYTES = 64, 4096  # the number and the size of the pieces of a cache file that the checksum covers


def cache_in_memory(samples: Samples, description: str = "images") -> Tensors:
    """Read all images into memory. Files are read with one thread for each core, as decoding releases Python's lock."""
    images = _channels_last(torch.empty(_shape(samples), dtype=torch.uint8))
    _fill(images, samples, description)
    paths = list(samples.paths) if isinstance(samples, Files) else None
    return Tensors(samples.targets, images, paths, groups=samples.groups)


def cache_on_disk(samples: Samples, folder: Path, description: str = "images") -> Tensors:
    """Read all images into a memory-mapped file in `folder`, or use that file if no source file has changed.

    The file is written under another name and then renamed. It ends with a seal. If the seal does not match, the file
    is written again.
    """
    if not isinstance(samples, Files):
        raise UserError("data.cache disk needs image files; use ram, or none")
    shape = _shape(samples)
    file = folder / f"{_fingerprint(samples)}.uint8"
    size = int(torch.tensor(shape).prod())
    if not _is_sound(file, size):
        with replacing(file) as part:
            images = torch.from_file(str(part), shared=True, size=size, dtype=torch.uint8).view(shape)
            _fill(_channels_last(images), samples, description)
            with part.open("r+b") as stream:
                seal = _seal(stream, size)
                stream.seek(size)
                stream.write(seal)
    images = torch.from_file(str(file), shared=False, size=size, dtype=torch.uint8).view(shape)
    return Tensors(samples.targets, _channels_last(images), samples.paths, groups=samples.groups)


def _is_sound(file: Path, size: int) -> bool:
    """Return whether a cache file is intact, judged by its length, its seal and some of its pixels.

    Raises:
        UserError: the file is not a regular file, or cannot be read.
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
        print(f"{file} is cut off or damaged; it is written again", flush=True)
    return sound


def _seal(stream: BinaryIO, size: int) -> bytes:
    """Return the bytes that follow `size` bytes of pixels: a mark, and a checksum of some evenly spaced pieces."""
    checksum = 0
    for piece in range(PIECES):
        stream.seek(piece * max(0, size - PIECE_BYTES) // (PIECES - 1))
        checksum = zlib.crc32(stream.read(min(PIECE_BYTES, size)), checksum)
    return b"%s %d %08x\n" % (MARK, size, checksum)


def _fill(images: Tensor, samples: Samples, description: str) -> None:
    broken: list[str] = []

    def read(index: int) -> None:
        try:
            images[index] = samples.read(index)
        except BrokenFiles as error:
            broken.append(str(error))

    # A data set of another library may not be safe to read from several threads.
    threads = available_cores() if isinstance(samples, Files) else 1
    with ThreadPoolExecutor(threads) as pool:
        hidden = not sys.stderr.isatty()
        results = pool.map(read, range(len(samples)))
        for _ in tqdm(results, f"reading {description}", len(samples), disable=hidden, leave=False):
            pass
    if broken:
        listed = "\n  ".join(sorted(broken)[:10])
        more = f"\n  and {len(broken) - 10} more" if len(broken) > 10 else ""
        raise BrokenFiles(
            f"{len(broken)} of {len(samples)} images cannot be read; repair or remove them:\n  {listed}{more}"
        )


def _shape(samples: Samples) -> tuple[int, ...]:
    """Return [N H W C], the layout in which files are decoded."""
    channels, height, width = samples.shape
    return len(samples), height, width, channels


def _channels_last(images: Tensor) -> Tensor:
    """View [N H W C] as [N C H W]."""
    return images.permute(0, 3, 1, 2)


def _fingerprint(samples: Files) -> str:
    digest = hashlib.sha256(repr((type(samples).__qualname__, samples.shape, *samples.settings)).encode())
    for path in samples.sources:
        try:
            stat = path.stat()
        except FileNotFoundError:
            raise BrokenFiles(f"{path}: no such file") from None
        line = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))  # a file's name may be bytes that are not UTF-8
    return digest.hexdigest()[:32]
