"""Read files of unknown origin within limits, and write files that are complete or absent.

All annotations, images and configs are read with these functions. A hostile or damaged file then ends the program with
a one-line message. See also `yaml_files` and `checkpoint_limits`.
"""

import json
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from kit.ground.errors import BrokenFiles, UserError

MiB = 2**20
# The largest sizes of files, in bytes.
MAX_CONFIG_BYTES = 2 * MiB  # configs, data.yaml and class tables
MAX_ANNOTATION_BYTES = 16 * MiB  # annotations of one image
MAX_LIST_BYTES = 256 * MiB  # tables and lists of all images
MAX_IMAGE_BYTES = 2048 * MiB
MAX_JSON_BYTES = 2048 * MiB  # annotations of all images

FILE_TYPES = {"d": "a folder", "p": "a named pipe", "c": "a device", "b": "a device"}  # by `stat.filemode`


def require_regular(path: Path) -> int:
    """Return a file's size in bytes, without opening it.

    Raises:
        OSError: the file does not exist, a permission is missing, or the path is not a regular file. To open a pipe or
            a device might never return.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{FILE_TYPES.get(stat.filemode(status.st_mode)[0], 'a socket')}, not a regular file")
    return status.st_size


def read_bytes(file: Path, most: int) -> bytes:
    """Return a file's content.

    Args:
        most: the maximum size of the file, in bytes.

    Raises:
        BrokenFiles: the file is not a regular file, is too large, or cannot be read.
    """
    try:
        size = require_regular(file)
        if size > most:
            raise BrokenFiles(f"{file}: {size:,} bytes, but such a file has at most {most:,}")
        return file.read_bytes()
    except FileNotFoundError:
        raise BrokenFiles(f"{file}: no such file") from None
    except OSError as error:
        raise BrokenFiles(f"{file}: {error.strerror or error}") from None


def read_text(file: Path, most: int) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Args:
        most: the maximum size of the file, in bytes.

    Raises:
        BrokenFiles: the file cannot be read (see `read_bytes`) or is not UTF-8.
    """
    content = read_bytes(file, most)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BrokenFiles(f"{file}:{line}: not UTF-8; save the file in that encoding") from None


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
        _require_image_size(file)
    try:
        image = Image.open(file if content is None else BytesIO(content))
    except Image.DecompressionBombError as error:
        pixels = re.findall(r"\d+", str(error))[0]
        remedy = f"make it smaller or cut it into tiles; `predict` reads it with --max_pixels {pixels}"
        raise OSError(f"{int(pixels):,} pixels, but at most {max_pixels():,} are read; {remedy}") from None
    if image.format == "EPS":  # PIL would run Ghostscript to draw it
        image.close()
        raise OSError("a PostScript file, which is a program")
    return image


def max_pixels() -> int:
    """Return the number of pixels of the largest image that PIL opens. It refuses files that may fill the memory."""
    return 2 * (Image.MAX_IMAGE_PIXELS or 2**27)


@contextmanager
def allowing_pixels(limit: int) -> Iterator[None]:
    """Change the number of pixels of the largest image that is read."""
    usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, (limit + 1) // 2
    try:
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):  # above half of it
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = usual


def read_image_bytes(file: Path) -> bytes:
    """Return the bytes of an image file.

    Raises:
        OSError: the file is not a regular file, is too large, or cannot be read.
    """
    _require_image_size(file)
    return file.read_bytes()


def _require_image_size(file: Path) -> None:
    size = require_regular(file)
    if size > MAX_IMAGE_BYTES:
        raise OSError(f"{size:,} bytes, but an image has at most {MAX_IMAGE_BYTES:,}")


def require_writable(file: Path) -> None:
    """Raise `UserError` if a file cannot be written. Call this before a long computation of its content."""
    parent = next(folder for folder in file.absolute().parents if folder.exists())
    if file.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        why = "it is a folder" if file.is_dir() else f"{parent} is not a writable folder"
        raise UserError(f"{file} cannot be written: {why}; give a file's name")


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to `file` if there was no exception.

    Missing folders are created.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.part{os.getpid()}_{threading.get_ident()}")
    try:
        yield temporary
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(file: Path, content: str) -> None:
    """Write a text file. If this fails, no part of it is left."""
    with replacing(file) as part:
        part.write_text(content, encoding="utf-8")
