"""Read the values, lines and XML of annotation files, within limits of size.

Plain text, JSON and YAML are read by `kit.ground.files` and `kit.ground.yaml_files`.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from kit.ground.errors import BrokenFiles, UserError
from kit.ground.faults import Fault, fault
from kit.ground.files import MAX_ANNOTATION_BYTES, MAX_LIST_BYTES, read_bytes, read_text


def number(written: Any) -> float | None:
    """Convert a number from JSON or XML, perhaps written as text, to a float; None if it is not finite."""
    if isinstance(written, bool) or (isinstance(written, str) and "_" in written):
        return None  # Python would read True as 1 and "1_000" as 1000
    try:
        value = float(written)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def describe_size(size: Sequence[int]) -> str:
    """Return a height and width in words."""
    return f"{size[0]} high and {size[1]} wide"


def read_lines(file: Path) -> list[str]:
    """Return the stripped lines of a text file, without empty lines."""
    return [line for line in map(str.strip, read_text(file, MAX_LIST_BYTES).splitlines()) if line]


def read_xml(file: Path) -> tuple[ElementTree.Element, bytes]:
    """Return the root element of an XML file, and the file's content.

    Raises:
        BrokenFiles: the file is not XML, names an unknown encoding, declares entities, or is too large.
    """
    content = read_bytes(file, MAX_ANNOTATION_BYTES)
    if b"<!ENTITY" in content:  # a few of them may expand to gigabytes
        raise BrokenFiles(f"{file}: it declares entities, which no annotation needs")
    try:
        return ElementTree.fromstring(content), content
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # ValueError, LookupError: encodings
        line = f":{error.position[0]}" if isinstance(error, ElementTree.ParseError) else ""
        raise BrokenFiles(f"{file}{line}: broken XML ({error}); export the file again, or remove it") from None


def joined_class_faults(names: Iterable[str], file: object) -> list[Fault]:
    """Return a fault for each name that several classes have. file: the file that names the classes."""
    message = "{} classes are named '{}', and become one class; rename them if they differ"
    joined = [(count, name) for name, count in Counter(names).items() if count > 1]
    return [fault("class-joined", file, message.format(*pair)) for pair in joined]


def unreadable_fault(file: Path, error: UserError) -> Fault:
    """Return the fault for an error in reading a file. The error's message begins with `FILE:` or `FILE:LINE:`."""
    line, message = re.fullmatch(rf"(?:{re.escape(str(file))}:(\d+)?:? *)?(.*)", str(error), re.DOTALL).groups()
    return Fault("annotation-unreadable", "error", str(file), int(line) if line else None, message)
