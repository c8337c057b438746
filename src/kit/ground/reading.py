"""Read files that anyone may have written: only regular files, and only within limits of size, depth and number.

Annotations, configs, images and checkpoints are read through this module. A hostile or damaged file then ends in one
line, and not in a hang, in gigabytes of memory or in a traceback.
"""

import json
import mmap
import re
import stat
import struct
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import yaml
from PIL import Image

from kit.ground.errors import BrokenFiles, UserError

MiB = 2**20
# The largest sizes of files, in bytes.
MOST_OF_CONFIG = 2 * MiB  # a config, data.yaml or a class table
MOST_OF_ANNOTATION = 16 * MiB  # the annotations of one image
MOST_OF_LIST = 256 * MiB  # a table or a list of all images
MOST_OF_IMAGE_FILE = 2048 * MiB  # an image
MOST_OF_JSON = 2048 * MiB  # the annotations of all images

DEEPEST = 50  # levels of lists and mappings in YAML
MOST_VALUES = 100_000  # values in YAML, where an alias counts as many as what it stands for
MOST_DIGITS = 100  # digits of a number in YAML
MOST_CLASSES = 100_000  # a larger class number is a mistake, or an attack on memory

ZIP = b"PK\3\4"  # how a zip file begins
# Of what torch lets a pickle call: the first fills as much memory as a number says, the second takes hours for a text.
FILLERS = {b"\nbytearray\n": "a bytearray", b"\nencode\n": "bytes"}

KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
}


class NotAFile(OSError):
    """A path does not lead to a regular file; opening it might never return."""


def require_regular(path: Path) -> int:
    """Return a file's size in bytes, without opening it.

    Raises:
        NotAFile: it is a folder, a named pipe, a device or a socket.
        OSError: there is no such file, or no permission to look it up.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_kind, name in KINDS.items() if is_kind(status.st_mode)), "something else")
        raise NotAFile(f"{kind}, not a regular file")
    return status.st_size


def read_bytes(file: Path, most: int) -> bytes:
    """Return a file's content.

    Args:
        most: the largest size of the file, in bytes.

    Raises:
        BrokenFiles: it is not a regular file, is too large, or cannot be read.
    """
    try:
        size = require_regular(file)
        if size > most:
            raise BrokenFiles(f"{file}: {size:,} bytes, but such a file has at most {most:,}")
        with file.open("rb") as stream:
            content = stream.read(most + 1)  # some files, such as those below /proc, hold more than their size says
    except FileNotFoundError:
        raise BrokenFiles(f"{file}: no such file") from None
    except OSError as error:
        raise BrokenFiles(f"{file}: {error.strerror or error}") from None
    if len(content) > most:
        raise BrokenFiles(f"{file}: more than {most:,} bytes, but such a file has at most that many")
    return content


def read_text(file: Path, most: int) -> str:
    """Return the text of a UTF-8 file, without the byte order mark that Windows puts first.

    Raises:
        BrokenFiles: see `read_bytes`; or the file is not UTF-8.
    """
    content = read_bytes(file, most)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BrokenFiles(f"{file}:{line}: not UTF-8; save the file in that encoding") from None


def line_of(file: Path, word: str) -> str:
    """Return `:7`, the number of the first line of a small text file that has a word, or an empty text."""
    found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text := read_text(file, MOST_OF_CONFIG))
    return "" if found is None else f":{text.count(chr(10), 0, found.start()) + 1}"


def read_json(file: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        BrokenFiles: see `read_text`; or the file is not JSON, is nested too deeply, or has a number of too many digits.
    """
    text = read_text(file, MOST_OF_JSON)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BrokenFiles(f"{file}:{error.lineno}: broken JSON ({error.msg}); export it again") from None
    except RecursionError:
        raise BrokenFiles(f"{file}: lists or objects are nested too deeply") from None
    except ValueError:  # Python does not convert integers of more than 4,300 digits
        raise BrokenFiles(f"{file}: a number has too many digits") from None


def read_yaml(file: Path) -> Any:
    """Return what a YAML file holds: see `parse_yaml`.

    Raises:
        UserError: see `read_text`; or the file is not YAML, or exceeds a limit.
    """
    return _read_yaml(file, _Loader)


def read_yaml_as_text(file: Path) -> Any:
    """Return what a YAML file holds, with every number, boolean and null as the text that stands in the file.

    Raises:
        UserError: see `read_yaml`.
    """
    return _read_yaml(file, _TextLoader)


def _read_yaml(file: Path, loader: type) -> Any:
    try:
        text = read_text(file, MOST_OF_CONFIG)
    except BrokenFiles as error:
        raise UserError(str(error)) from None  # the user named this file, so the command is wrong and not the data
    try:
        return _parse(text, loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f":{mark.line + 1}"
        why = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UserError(f"{file}{line}: broken YAML ({why})") from None


def parse_yaml(text: str) -> Any:
    """Return what a YAML text holds, by the core schema of YAML 1.2.

    Unlike in YAML 1.1, these stay text: `yes`, `no`, `on` and `off`, dates, times (12:30), and numbers that begin with
    0 (007).

    Raises:
        yaml.YAMLError: the text is not YAML, or exceeds a limit.
    """
    return _parse(text, _Loader)


def _parse(text: str, loader: type) -> Any:
    try:
        _require_limits(text)
        return yaml.load(text, Loader=loader)  # a SafeLoader
    except (ValueError, TypeError, ArithmeticError, AttributeError, LookupError) as error:  # by a tag, as `!!int cat`
        raise yaml.YAMLError(str(error)) from None


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A safe loader with the core schema of YAML 1.2."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?)"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})$"), list(_first))


class _TextLoader(_Loader):
    """A safe loader that reads every scalar as text."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}


def _require_limits(text: str) -> None:
    """Check a YAML text by its events, which needs hardly any memory, before any value is built.

    Raises:
        yaml.YAMLError: the text is not YAML, or exceeds a limit.
    """
    sizes: dict[str, int] = {}  # anchor to the number of values, where an alias counts as many as what it stands for
    open_parts: list[tuple[str | None, int]] = []  # the anchor and the size so far of each open list or mapping
    for event in yaml.parse(text, Loader=_Loader):
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.CollectionStartEvent):
            open_parts.append((anchor, 1))
            if len(open_parts) > DEEPEST:
                raise _beyond(event, f"lists and mappings are nested more than {DEEPEST} deep")
            continue
        if isinstance(event, yaml.AliasEvent):
            if anchor not in sizes:
                raise _beyond(event, f"the alias *{anchor} stands inside of itself, or before its anchor &{anchor}")
            size = sizes[anchor]
        elif isinstance(event, yaml.ScalarEvent):
            number = event.tag == "tag:yaml.org,2002:int" or re.fullmatch(r"[-+]?[0-9_]+", event.value)
            if number and len(event.value) > MOST_DIGITS:
                raise _beyond(event, f"a number of {len(event.value):,} digits")
            size = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_parts.pop()
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        if open_parts:
            outer_anchor, others = open_parts[-1]
            open_parts[-1] = outer_anchor, others + size
            if others + size > MOST_VALUES:
                raise _beyond(event, f"more than {MOST_VALUES:,} values, counting what each alias stands for")


def _beyond(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def open_image(file: Path, content: bytes | None = None) -> Image.Image:
    """Open an image file without decoding its pixels.

    Args:
        content: the file's bytes, if they have been read already.

    Raises:
        NotAFile: it is not a regular file; it is not opened.
        OSError, ValueError, SyntaxError, Image.DecompressionBombError: it is not an image, or cannot be read.
    """
    if content is None:
        _require_image_size(file)
    image = Image.open(file if content is None else BytesIO(content))
    if image.format == "EPS":  # PIL would run Ghostscript to draw it
        image.close()
        raise OSError("PostScript, which is a program and not an image")
    return image


def read_image_bytes(file: Path) -> bytes:
    """Return the bytes of an image file.

    Raises:
        OSError: it is not a regular file, is too large, or cannot be read.
    """
    _require_image_size(file)
    return file.read_bytes()


def _require_image_size(file: Path) -> None:
    size = require_regular(file)
    if size > MOST_OF_IMAGE_FILE:
        raise OSError(f"{size:,} bytes, but an image has at most {MOST_OF_IMAGE_FILE:,}")


def require_stored(file: Path) -> None:
    """Refuse a checkpoint that would take more memory than its size says. `torch.save` does not compress.

    Raises:
        OSError: it cannot be read.
        zipfile.BadZipFile: it is not a whole zip file, which torch has written since version 1.6.
        ValueError: its parts are compressed, or declare more bytes than it has, or one holds one of the `FILLERS`.
    """
    size = require_regular(file)
    with file.open("rb") as stream:
        if stream.read(4) != ZIP:  # torch would read it as its older format, even if a zip file's end follows
            raise zipfile.BadZipFile("File is not a zip file")
    with zipfile.ZipFile(file) as archive:
        if archive.start_dir != _directory(file, size):
            raise zipfile.BadZipFile("its list of parts is not where it belongs")
        parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise ValueError("its parts are compressed, which torch.save never does")
        declared = sum(part.file_size for part in parts)
        if declared > size:
            raise ValueError(f"it declares {declared:,} bytes, but has {size:,}")
        for part in parts:
            if part.filename.lower().endswith(".pkl"):  # torch finds parts by name in any case
                _require_no_filler(archive.read(part))


def _directory(file: Path, size: int) -> int | None:
    """Return where a zip file's list of parts begins, if all readers find it there, else None.

    Zip files may be written so that Python and torch find different lists. In torch.save's, the list ends where the
    records of the file's end begin, and nothing follows these.
    """
    with file.open("rb") as stream:
        stream.seek(max(0, size - 98))
        tail = stream.read()
    end, locator, end64 = tail[-22:], tail[-42:-22], tail[-98:-42]
    if end[:4] != b"PK\5\6" or len(end) < 22:
        return None
    length, start, ends = *struct.unpack("<II", end[12:20]), size - 22
    if locator[:4] == b"PK\6\7":
        ends = size - 98
        if end64[:4] != b"PK\6\6" or struct.unpack("<Q", locator[8:16])[0] != ends:
            return None
        length, start = struct.unpack("<QQ", end64[40:56])
    return start if start + length == ends else None


def _require_no_filler(content: bytes | mmap.mmap) -> None:
    for filler, what in FILLERS.items():
        if content.find(filler) >= 0:
            raise ValueError(f"it holds {what}, which no checkpoint of ours and no weights do")


def require_weights(file: Path) -> None:
    """Do the same as `require_stored` for a file of weights, which may also have torch's format before version 1.6.

    Raises:
        OSError, zipfile.BadZipFile, ValueError: see `require_stored`.
    """
    require_regular(file)
    with file.open("rb") as stream:
        is_zip = stream.read(4) == ZIP
        if not is_zip:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:  # a ValueError if it is empty
                _require_no_filler(content)
    if is_zip:
        require_stored(file)
