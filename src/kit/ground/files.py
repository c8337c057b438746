"""Read files of unknown origin within limits, and write files that are complete or absent.

All annotations, images and configs are read with these functions. A hostile or damaged file then ends the program with
a one-line message. See also `yaml_files` and `checkpoint_limits`.
"""

import codecs
import json
import os
import platform
import re
import stat
import threading
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from kit.ground.errors import BrokenFiles, UserError

MiB = 2**20
# The largest sizes of files, in bytes.
MAX_CONFIG_BYTES = 2 * MiB  # configs, data.yaml and class tables
MAX_ANNOTATION_BYTES = 16 * MiB  # annotations of one image
MAX_LIST_BYTES = 256 * MiB  # tables and lists of all images
MAX_IMAGE_BYTES = 2048 * MiB
MAX_JSON_BYTES = 2048 * MiB  # annotations of all images

# The byte order marks, and the encodings of files that begin with them.
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# The name of a temporary file ends with the process, the thread, and a checksum of the machine's name.
TEMPORARY = re.compile(r"\.part(\d{1,9})_\d+_([0-9a-f]{8})$")
MACHINE = f"{zlib.crc32(platform.node().encode()):08x}"
SECONDS_UNTIL_ABANDONED = 24 * 3600  # counted from the last write to a temporary file of another machine
LFS_POINTER = b"version https://git-lfs"  # the first bytes of the text that Git LFS puts in place of a file
NOT_FETCHED = "a Git LFS pointer in place of the file; fetch the file with `git lfs pull`"
# By the first letter of `stat.filemode`.
FILE_TYPES = {"d": "a folder", "p": "a named pipe", "c": "a device", "b": "a device"}


def require_regular(path: Path, max_bytes: int | None = None) -> int:
    """Raise an error unless a path is a regular file within a size limit. The file is not opened.

    Args:
        max_bytes: the maximum size in bytes; by default, any size is allowed.

    Raises:
        OSError: the file does not exist or is too large, a permission is missing, or the path is not a regular file.
            Opening a pipe or a device might block forever.

    Returns:
        the size in bytes.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{FILE_TYPES.get(stat.filemode(status.st_mode)[0], 'a socket')}, not a regular file")
    if max_bytes is not None and status.st_size > max_bytes:
        raise OSError(f"{status.st_size:,} bytes, but such a file has at most {max_bytes:,}")
    return status.st_size


def is_file(path: Path) -> bool:
    """Return whether a path leads to a file. Unlike `Path.is_file`, do not raise `OSError` if a name is too long."""
    return os.path.isfile(path)  # noqa: PTH113


def read_bytes(file: Path, max_bytes: int) -> bytes:
    """Return the content of a file of at most `max_bytes`.

    Raises:
        BrokenFiles: the file is not a regular file, is too large, is a Git LFS pointer, or cannot be read.
    """
    try:
        require_regular(file, max_bytes)
        content = file.read_bytes()
    except OSError as error:
        raise BrokenFiles(f"{file}: {error.strerror or error}") from None
    if content.startswith(LFS_POINTER):
        raise BrokenFiles(f"{file}: {NOT_FETCHED}")
    return content


def read_ends(file: Path, count: int) -> bytes:
    """Return the first and the last `count` bytes of a file, without the zeros of UTF-16; b"" if it cannot be read."""
    with suppress(OSError):
        size = require_regular(file)
        with file.open("rb") as stream:
            start = stream.read(count)
            stream.seek(max(len(start), size - count))
            return (start + stream.read(count)).replace(b"\0", b"")
    return b""


def read_text(file: Path, max_bytes: int) -> str:
    """Return the text of a file of at most `max_bytes`, in UTF-8, or in UTF-16 with a mark. The mark is left out.

    Raises:
        BrokenFiles: the file cannot be read (see `read_bytes`) or decoded (see `decode_text`).
    """
    return decode_text(file, read_bytes(file, max_bytes))


def decode_text(file: Path, content: bytes, encoding: str = "utf-8") -> str:
    """Return the text of a file's content, which is in `encoding` unless it begins with a byte order mark.

    Raises:
        BrokenFiles: the encoding is unknown, the content is not in this encoding, or it has a NUL character.
    """
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), encoding)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        # Put a NUL in place of the bytes that cannot be decoded. The check below then reports their line.
        text = error.object[: error.start].decode(encoding, "ignore") + "\0"
    except (LookupError, UnicodeError):
        raise BrokenFiles(f"{file}:1: unknown encoding '{encoding}'; save the file as UTF-8") from None
    if "\0" in text:  # UTF-16 without a mark has many NULs
        line, name = text.count("\n", 0, text.index("\0")) + 1, encoding.removesuffix("-sig").upper()
        raise BrokenFiles(f"{file}:{line}: not {name} text; save the file as UTF-8 (in Excel: CSV UTF-8)")
    return text


def read_json(file: Path) -> Any:
    """Return the value in a JSON file.

    Raises:
        BrokenFiles: the file cannot be read (see `read_text`), is not JSON, is nested too deeply, or has an integer of
            more than 4,300 digits.
    """
    text = read_text(file, MAX_JSON_BYTES)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BrokenFiles(f"{file}:{error.lineno}: broken JSON ({error.msg}); export it again") from None
    except (RecursionError, ValueError):
        raise BrokenFiles(f"{file}: nested too deeply, or a number has too many digits") from None


def open_image(file: Path, content: bytes | None = None) -> Image.Image:
    """Open an image file without decoding its pixels.

    Args:
        content: the file's bytes, if they have been read already.

    Raises:
        OSError, ValueError, SyntaxError: the file is not an image, has more than `max_pixels`, or cannot be read.
    """
    if content is None:
        require_regular(file, MAX_IMAGE_BYTES)
    try:
        image = Image.open(file if content is None else BytesIO(content))
    except Image.DecompressionBombError as error:
        pixels = int(re.findall(r"\d+", str(error))[0])
        remedy = f"make it smaller or cut it into tiles; `predict` reads it with --max_pixels {pixels}"
        raise OSError(f"{pixels:,} pixels, but at most {max_pixels():,} are read; {remedy}") from None
    except UnidentifiedImageError:
        if (content or read_ends(file, len(LFS_POINTER))).startswith(LFS_POINTER):
            raise OSError(NOT_FETCHED) from None
        raise
    if image.format == "EPS":  # PIL would run Ghostscript to draw it
        image.close()
        raise OSError("a PostScript file, which is a program")
    return image


def max_pixels() -> int:
    """Return the number of pixels of the largest image that PIL opens. Larger images may fill the memory."""
    return 2 * (Image.MAX_IMAGE_PIXELS or 2**27)


@contextmanager
def allowing_pixels(limit: int) -> Iterator[None]:
    """Set the number of pixels of the largest image that PIL opens in this context."""
    previous_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, (limit + 1) // 2
    try:
        # PIL warns about images with more than half of the limit.
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = previous_limit


def require_writable(file: Path) -> None:
    """Raise `UserError` if a file cannot be written. Call this before a long computation of the content."""
    # Unlike the methods of `Path`, these functions do not raise `OSError` for an unreadable folder or a long name.
    parent = next(folder for folder in file.absolute().parents if os.path.exists(folder))  # noqa: PTH110
    if os.path.isdir(file):  # noqa: PTH112
        raise UserError(f"{file} cannot be written: it is a folder; give a file's name")
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"{file} cannot be written: {parent} is not a writable folder; choose another one")


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to `file` if there was no exception.

    Missing folders are created. Temporary files that killed processes have left in the folder are removed.

    Raises:
        UserError: the system cannot write the file.
    """
    temporary = file.with_name(f"{file.name}.part{os.getpid()}_{threading.get_native_id()}_{MACHINE}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(file.parent.absolute())
        yield temporary
        temporary.replace(file)
    except OSError as error:
        why = f"{error.strerror or error}; choose another folder, or free disk space"
        raise UserError(f"{file} cannot be written: {why}") from error
    finally:
        with suppress(OSError):  # the path was renamed to `file`, or its folder is missing or read-only
            temporary.unlink()


@cache  # once for each folder, which may hold many files
def _remove_abandoned(folder: Path) -> None:
    with suppress(OSError):  # the folder or the file belongs to another user
        for path in folder.iterdir():
            if (match := TEMPORARY.search(path.name)) and _is_abandoned(path, int(match[1]), match[2]):
                path.unlink(missing_ok=True)


def _is_abandoned(temporary: Path, process: int, machine: str) -> bool:
    """Return whether the process that wrote a temporary file has ended.

    A process of another machine counts as ended if it has not written for `SECONDS_UNTIL_ABANDONED`.
    """
    if machine != MACHINE or os.name != "posix":  # on Windows, `os.kill` would end the process
        return time.time() - temporary.stat().st_mtime > SECONDS_UNTIL_ABANDONED
    try:
        os.kill(process, 0)
    except OSError as error:
        return isinstance(error, ProcessLookupError)  # a process of another user raises `PermissionError`
    return False


def write_text(file: Path, content: str) -> None:
    r"""Write a text file in UTF-8. If this fails, no part of it is left.

    Bytes of file names that are not UTF-8 become escapes such as `\udce9`, from which JSON restores the name.
    """
    with replacing(file) as temporary:
        temporary.write_text(content, encoding="utf-8", errors="backslashreplace")
