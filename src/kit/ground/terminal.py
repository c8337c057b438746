"""Write to the terminal: text without control characters, styled text, and lines that are drawn again and again.

Names of files and classes may come from a stranger. They may contain characters that move the cursor, hide text, or
write to the clipboard. Output that cannot be written is dropped.
"""

import io
import logging
import os
import re
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar, TextIO

# Control characters except tabs and line feeds; Unicode's line separators; marks that change the direction of text;
# and surrogates, which stand for bytes that are not UTF-8.
CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_IN_STREAM = re.compile(f"[{CONTROLS}]")
_IN_LINE = re.compile(f"[{CONTROLS}\\t\\n]")
_BETWEEN_BARS = re.compile("\n*(\x1b\\[A)*")  # tqdm moves from one progress bar to another with these characters
MAX_CHARACTERS = 1000  # `escape` cuts a longer text
MAX_WIDTH = 10_000  # characters in a line of a table that is not printed to a terminal


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
    # If the shell closed stdin, stdout or stderr (`>&-`), open /dev/null in its place. Otherwise a file of the run
    # would get descriptor 0, 1 or 2.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    streams = [stream or os.fdopen(number, "w", closefd=False) for number, stream in ((1, sys.stdout), (2, sys.stderr))]
    sys.stdout, sys.stderr = map(_GuardedStream.of, streams)
    for name in (None, "lightning", "lightning.pytorch", "lightning.fabric"):  # handlers hold the old streams
        for handler in logging.getLogger(name).handlers:
            if type(handler) is logging.StreamHandler:
                handler.setStream(_GuardedStream.of(handler.stream))


class _GuardedStream:
    """A text stream that escapes control characters, except in progress bars, and drops what it cannot write.

    live_lines: the lines at the bottom of the terminal, or None. Text replaces them until they are
        drawn again below it.
    line_is_open: whether the last text on the terminal did not end its line.
    """

    live_lines: ClassVar["LiveLines | None"] = None
    line_is_open: ClassVar[bool] = False

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # escapes characters that the terminal's encoding lacks

    @staticmethod
    def of(stream: Any) -> Any:
        return stream if stream is None or isinstance(stream, _GuardedStream) else _GuardedStream(stream)

    def write(self, text: str) -> int:
        if not _BETWEEN_BARS.fullmatch(text):
            start = "\r" if text.startswith("\r") else ""
            text = start + _IN_STREAM.sub(_escaped, text[len(start) :].replace("\r\n", "\n"))
        self.write_styled(text)
        return len(text)

    def write_styled(self, text: str) -> None:
        """Write text without escaping it."""
        if self._stream.isatty():
            # To move the cursor up, tqdm writes this text after a lower bar, and leaves the bar's line open.
            if text and not text.endswith("\x1b[A"):
                _GuardedStream.line_is_open = not text.endswith(("\n", "\r"))
            text = replacing_live_lines(text)
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def styled(*renderables: Any, stream: TextIO | None = None, crop: bool = False) -> str:
    """Return strings and objects of `rich` as text, each on lines of its own.

    Args:
        renderables: the strings and objects. A string is escaped and becomes one line, so that a path in it can be
            copied in one piece. Objects fit into the width of a terminal. The caller must escape texts in objects.
        stream: where the text will be written. The text has colours if the stream is a terminal with colours, and
            `NO_COLOR` is not set. Without a stream, the text has no colours.
        crop: whether to cut long lines at the edge of the terminal. Otherwise, the terminal wraps them.
    """
    from rich.console import Console
    from rich.text import Text

    width = shutil.get_terminal_size().columns if stream and stream.isatty() else MAX_WIDTH
    colours: Any = "auto" if stream else None
    console = Console(
        file=stream or io.StringIO(),
        color_system=colours,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
        force_jupyter=False,
    )
    with console.capture() as capture:
        for renderable in renderables:
            is_line = isinstance(renderable, str)
            text = Text(escape(renderable)) if is_line else renderable
            console.print(text, soft_wrap=is_line and not crop, no_wrap=crop or None)
    return capture.get()


def print_styled(*renderables: Any) -> None:
    """Print strings and objects of `rich`: see `styled`."""
    stream = _GuardedStream.of(sys.stdout)
    stream.write_styled(styled(*renderables, stream=stream))
    stream.flush()


def replacing_live_lines(text: str) -> str:
    """Return a text with the control characters that make it replace the current `LiveLines`, if there are any."""
    return _GuardedStream.live_lines.replaced_by(text) if _GuardedStream.live_lines else text


class LiveLines:
    """Draw lines at the bottom of a terminal again and again.

    Text that the program prints to `sys.stdout` or `sys.stderr` replaces the lines: see `guard_output`. The next call
    of `draw` puts them below this text. The cursor stays below the lines, at the start of a line.
    """

    def __init__(self) -> None:
        self._text = ""
        self._process = os.getpid()

    def draw(self, *renderables: Any, above: Sequence[Any] = ()) -> None:
        """Replace the lines by strings and objects of `rich`: see `styled`.

        Args:
            renderables: the new lines.
            above: strings and objects to print above the lines, where they stay.
        """
        stream = _GuardedStream.of(sys.stdout)
        text = styled(*renderables, stream=stream, crop=True)
        above_text = styled(*above, stream=stream, crop=True)
        if _GuardedStream.line_is_open and not above:  # the line may be a progress bar of the user's code
            return
        stream.write_styled("\n" * _GuardedStream.line_is_open + above_text + text)
        stream.flush()
        self._text, _GuardedStream.live_lines = text, self if text else None

    def erase(self) -> None:
        """Remove the lines."""
        if _GuardedStream.live_lines is self:
            _GuardedStream.of(sys.stdout).write_styled("")
            sys.stdout.flush()
        self._text = ""

    def replaced_by(self, text: str) -> str:
        """Return a text with the control characters that make it replace the lines."""
        height = self._text.count("\n")
        removal = f"\r\x1b[{height}A\x1b[J"  # Ctrl-C may have moved the cursor to the right
        if os.getpid() != self._process:  # a worker process: leave the cursor where the main process expects it
            return f"{removal}{text.rstrip()}\n{height * chr(10)}" if text.strip() else ""
        _GuardedStream.live_lines = None
        return removal + text


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python represents a byte of a file name that is not UTF-8
        code -= 0xDC00
    return {"\n": "\\n", "\t": "\\t"}.get(match[0], f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
