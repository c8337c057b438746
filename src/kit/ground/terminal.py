"""Replace characters that would control the terminal, and go on if the output cannot be written.

Names of files and classes may come from a stranger. They may contain characters that move the cursor, hide text, or
write to the clipboard.
"""

import io
import logging
import os
import re
import sys
from contextlib import suppress
from typing import Any, TextIO

# Control characters except tabs and line feeds; marks that change the direction of text; bytes that are not UTF-8.
CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_IN_STREAM = re.compile(f"[{CONTROLS}]")
_IN_LINE = re.compile(f"[{CONTROLS}\\t\\n]")
_BETWEEN_BARS = re.compile("\n*(\x1b\\[A)*")  # tqdm moves from one progress bar to another with these characters
MAX_CHARACTERS = 1000  # in a line


def escape(text: str) -> str:
    r"""Return a text in one line: escape control characters (such as `\x1b`) and line feeds, and cut a long text."""
    if len(text) > MAX_CHARACTERS:
        text = f"{text[: MAX_CHARACTERS - 100]}... ({len(text):,} characters)"
    return _IN_LINE.sub(_escaped, text)


def escape_controls(text: str) -> str:
    """Escape control characters in a text, except tabs and line feeds."""
    return _IN_STREAM.sub(_escaped, text)


def guard_output() -> None:
    """Let `sys.stdout` and `sys.stderr` escape control characters, and drop text that cannot be written.

    A training must not end because the disk of its log is full, or because the program after a `|` has ended.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # the shell has closed this stream (`>&-`), and a file of the run must not take its number
    os.close(descriptor)
    streams = [stream or os.fdopen(number, "w", closefd=False) for number, stream in ((1, sys.stdout), (2, sys.stderr))]
    sys.stdout, sys.stderr = map(_Guarded.of, streams)
    for name in (None, "lightning", "lightning.pytorch", "lightning.fabric"):  # their handlers hold the old stream
        for handler in logging.getLogger(name).handlers:
            if type(handler) is logging.StreamHandler:
                handler.setStream(_Guarded.of(handler.stream))


class _Guarded:
    """A text stream that escapes control characters, except those of progress bars, and drops what it cannot write."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # escapes characters that the terminal's encoding lacks

    @staticmethod
    def of(stream: Any) -> Any:
        return stream if stream is None or isinstance(stream, _Guarded) else _Guarded(stream)

    def write(self, text: str) -> int:
        if not _BETWEEN_BARS.fullmatch(text):
            start = "\r" if text.startswith("\r") else ""
            text = start + _IN_STREAM.sub(_escaped, text[len(start) :].replace("\r\n", "\n"))
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python represents a byte of a file name that is not UTF-8
        code -= 0xDC00
    return {"\n": "\\n", "\t": "\\t"}.get(match[0], f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
