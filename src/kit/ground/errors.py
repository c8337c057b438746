"""Exceptions that end a program with a one-line message, and functions that make parts of messages."""

from importlib import import_module
from typing import Any

# Maps the number of a signal to the exit code: 128 plus the number. All other signals get the exit code of SIGTERM.
EXIT_CODES = {1: 129, 2: 130}  # SIGHUP, SIGINT


class UserError(Exception):
    """The user made a mistake. The command prints the message without a traceback, and exits with `exit_code`."""

    exit_code = 2


class BrokenFiles(UserError):
    """Files cannot be read, although the command line is right."""

    exit_code = 1


class UnreachableFiles(BrokenFiles):
    """The system could not read files: a permission is missing, a disk fails, or a network share is gone.

    The files may be intact. Training leaves out broken files, but stops if files are unreachable.
    """


class NotMeasured(UserError):
    """There is no result: a metric is not finite, or cannot be computed from these data."""

    exit_code = 1


class RunFailed(UserError):
    """The run cannot go on, although the command and the data are right."""

    exit_code = 1


class Stopped(BaseException):
    """A signal has stopped the run. The command prints the message unless it is empty, and exits with `exit_code`.

    Like `KeyboardInterrupt`, it may be raised anywhere, so `except Exception` must not catch it.

    Args:
        message: the message; "" in all processes but the first. The other processes exit with 0, since Lightning kills
            all processes that it has started if one of them exits with another code.
        number: the number of the signal.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number, self.exit_code = number, EXIT_CODES.get(number, 143) if message else 0


def import_extra(package: str, user: str, extra: str) -> Any:
    """Import a package that a pip extra installs.

    Raises:
        UserError: the package is not installed or cannot be imported, and `user`, such as a net or an option, needs it.
    """
    try:
        return import_module(package)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name in (package, package.partition(".")[0]):
            raise UserError(f"{user} needs {package}: pip install -e '.[{extra}]'") from None
        why = f"{package} is installed, but cannot be imported: {one_line(error)}"
        raise UserError(f"{user} needs {package}; {why}") from None


def did_you_mean(word: str, known) -> str:
    """Return the end of an error message, such as `; did you mean 'resnet18'?`, or "" if no known word is similar."""
    from difflib import get_close_matches

    matches = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def one_line(error: BaseException) -> str:
    """Return an exception's message in one line of at most 200 characters, or its class's name if it has none."""
    return " ".join(str(error).split())[:200] or type(error).__name__
