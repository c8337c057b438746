"""Describe an unexpected error: by its traceback if the user's code raised it, else in one line.

The user's code is all code outside of `site-packages`, the standard library and `kit`. The package of the commands,
such as `project`, is user code.
"""

import os
import re
import sysconfig
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kit.ground.errors import UserError
from kit.ground.files import write_text

KIT = Path(__file__).resolve().parents[1]
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
INSTALLED = {"site-packages", "dist-packages"}  # folders of installed packages
FRAME = re.compile(r'^ *File "([^"<][^"]*)", line \d+', re.MULTILINE)
# The error of another process, such as a data worker, has a traceback in its text. The message follows the traceback.
OTHER_PROCESS = re.compile(r'.*^ *File "[^\n]*\n(?: {4}[^\n]*\n)*', re.MULTILINE | re.DOTALL)

run_folder: Path | None = None  # the folder of the current run, into which tracebacks are written


class Activity(str):
    """A note of `doing`. Other libraries add notes of their own."""


@contextmanager
def doing(activity: str) -> Iterator[None]:
    """Add what the program was doing, such as "training", to unexpected exceptions that this context raises."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, UserError):
            error.add_note(Activity(f"while {activity}"))
        raise


def message_of(error: BaseException) -> str:
    """Return the message of an error, without the traceback of the process that raised it."""
    text = str(error)
    message = OTHER_PROCESS.sub("", text).strip()
    return message if message == text.strip() else message.partition(": ")[2]  # after the name of the error's class


def is_from_user_code(error: BaseException) -> bool:
    """Return whether the user's code raised an error, or called the installed package that raised it."""
    not_installed = [file for file in _files(error) if not _is_installed(file)]
    return bool(not_installed) and not not_installed[-1].is_relative_to(KIT)


def is_from_installed_package(error: BaseException) -> bool:
    """Return whether an installed package or Python raised an error, and was not called by the user's code."""
    return _is_installed(_files(error)[-1]) and not is_from_user_code(error)


def _files(error: BaseException) -> list[Path]:
    """Return the file of each frame of an error's traceback, the innermost one last."""
    return [Path(file).absolute() for file in FRAME.findall("".join(traceback.format_exception(error)))]


def _is_installed(file: Path) -> bool:
    return not INSTALLED.isdisjoint(file.parts) or file.is_relative_to(STANDARD_LIBRARY)


def message_prefix(error: BaseException) -> str:
    """Return the beginning of an error's message, such as "process 1: while training: ". Process 0 is not named."""
    process = [f"process {_rank()}"] if _rank() else []
    notes = getattr(error, "__notes__", [])  # only exceptions with notes have this attribute
    activities = [note for note in notes if isinstance(note, Activity)]
    return "".join(f"{part}: " for part in (*process, *activities[:1]))


def _rank() -> int:
    """Return the number of this process on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", 0))


def describe(error: BaseException) -> str:
    """Return the traceback of an error in the user's code.

    For any other error, return one line: what the program was doing, the error's message, and the file that has the
    traceback. This file is in the folder of the run or, if there is no run, a temporary file. If the file cannot be
    written, return the traceback.
    """
    text = "".join(traceback.format_exception(error)).rstrip()
    if is_from_user_code(error):
        return text
    try:
        file = _save(text)
    except (OSError, UserError):  # such as a full disk
        return text
    message = " ".join(message_of(error).split())[:300]
    name = type(error).__name__ + (": " if message else "")
    return f"error: {message_prefix(error)}{name}{message} (the traceback is in {file})"


def _save(text: str) -> Path:
    folder = run_folder if run_folder and run_folder.is_dir() else Path(tempfile.mkdtemp())
    file = folder / (f"traceback_{_rank()}.txt" if _rank() else "traceback.txt")
    write_text(file, f"{text}\n")
    return file
