"""Read the values, lines and XML of annotation files, within limits of size.

Plain text, JSON and YAML are read by `kit.ground.files` and `kit.ground.yaml_files`.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from kit.ground.errors import BrokenFiles, UserError
from kit.ground.faults import Fault, fault
from kit.ground.files import MAX_ANNOTATION_BYTES, MAX_LIST_BYTES, decode_text, read_bytes, read_text

MAX_LINE = 1000  # the largest number of characters in a line of a list
# The encoding in an XML declaration. Ignore a declaration of UTF-16 or UTF-32: if these ASCII bytes match, the file is
# in neither. idna and punycode are left out because decoding them takes quadratic time.
XML_ENCODING = re.compile(rb"""(?i)<\?xml[^>]*?\sencoding\s*=\s*["']((?!utf-?16|utf-?32|idna|punycode)[\w.:-]+)""")


def number(json_value: Any) -> float | None:
    """Convert a number in JSON, or a text, to a float. Return None for anything but a finite number."""
    if type(json_value) is float:  # a fast path, since there may be millions of numbers
        return json_value if math.isfinite(json_value) else None
    if isinstance(json_value, bool) or (isinstance(json_value, str) and "_" in json_value):
        return None  # Python would read True as 1 and "1_000" as 1000
    try:
        value = float(json_value)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def describe_size(size: Sequence[int]) -> str:
    """Return a height and width in pixels as text, such as `480 high and 640 wide`."""
    return f"{size[0]} high and {size[1]} wide"


def read_lines(file: Path, max_bytes: int = MAX_LIST_BYTES, max_chars: int = MAX_LINE) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the stripped text of each line that is not blank.

    Args:
        max_bytes: the maximum size of the file.
        max_chars: the maximum length of a line, in characters.

    Raises:
        BrokenFiles: the file cannot be read (see `read_text`).
        UserError: a line is too long.
    """
    lines = StringIO(read_text(file, max_bytes), newline=None)  # `str.splitlines` would also split at other characters
    for number, line in enumerate(map(str.strip, lines), 1):
        if len(line) > max_chars:
            raise UserError(f"{file}:{number}: a line has {len(line):,} characters, but may have at most {max_chars:,}")
        if line:
            yield number, line


def read_xml(file: Path) -> tuple[ElementTree.Element, str]:
    """Return the root element of an XML file, and the file's text.

    Raises:
        BrokenFiles: the file cannot be read (see `read_bytes`), is not XML, is not in the encoding that it declares, or
            declares entities.
    """
    content = read_bytes(file, MAX_ANNOTATION_BYTES)
    declared = XML_ENCODING.match(content)
    text = decode_text(file, content, declared[1].decode() if declared else "utf-8")
    if "<!ENTITY" in text:  # a few entities may expand to gigabytes
        raise BrokenFiles(f"{file}: it declares entities, which no annotation needs")
    try:
        return ElementTree.fromstring(text), text
    except (ElementTree.ParseError, ValueError) as error:  # ValueError: a lone surrogate
        line = f":{error.position[0]}" if isinstance(error, ElementTree.ParseError) else ""
        raise BrokenFiles(f"{file}{line}: broken XML ({error}); export the file again, or remove it") from None


def joined_class_faults(names: Iterable[str], file: object) -> list[Fault]:
    """Return a fault for each name that several classes have.

    Args:
        names: the name of each class.
        file: the file or folder that has these names.
    """
    message = "{} classes are named '{}', and become one class; rename them if they differ"
    return [fault("class-joined", file, message.format(n, name)) for name, n in Counter(names).items() if n > 1]


def unreadable_fault(file: Path, error: UserError) -> Fault:
    """Return the fault for an error in reading a file. The error's message begins with `FILE:` or `FILE:LINE:`."""
    line, message = re.fullmatch(rf"(?:{re.escape(str(file))}:(\d+)?:? *)?(.*)", str(error), re.DOTALL).groups()
    return fault("annotation-unreadable", file, message, int(line) if line else None)
