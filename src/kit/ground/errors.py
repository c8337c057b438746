"""Exceptions that end a program with a one-line message, and functions that make parts of messages."""


class UserError(Exception):
    """The user made a mistake. The command prints the message without a traceback, and exits with `exit_code`."""

    exit_code = 2


class BrokenFiles(UserError):
    """Files cannot be read, although the command line is right."""

    exit_code = 1


class UnreachableFiles(BrokenFiles):
    """The system could not read files: a permission is missing, a disk fails, or a network share is gone.

    The files may be intact. Training leaves out broken files, but stops for these.
    """


class NotMeasured(UserError):
    """There is no result: a metric is not finite, or cannot be computed from these data."""

    exit_code = 1


class Stopped(Exception):
    """A signal has stopped the run. The command prints the message unless it is empty, and exits with `exit_code`."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def did_you_mean(word: str, known) -> str:
    """Return the end of an error message, such as `; did you mean 'resnet18'?`, or "" if no known word is similar."""
    from difflib import get_close_matches

    matches = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def one_line(error: BaseException) -> str:
    """Return an exception's message in one line of at most 200 characters, or its type's name if it is empty."""
    return " ".join(str(error).split())[:200] or type(error).__name__
