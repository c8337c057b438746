"""Exceptions that end a program with one line, and helpers for their messages."""


class UserError(Exception):
    """The user made a mistake: the verbs print the message, without a traceback, and exit with `exit_code`."""

    exit_code = 2


class BrokenFiles(UserError):
    """Files cannot be read: the command is right, but the data are broken."""

    exit_code = 1


class UnreachableFiles(BrokenFiles):
    """The system could not read files: a permission is missing, a disk fails, or a network share is gone.

    The files may be intact, so training does not leave them out as it does with broken ones.
    """


class NotMeasured(UserError):
    """There is no result: a metric is not finite, or the data contain nothing to measure."""

    exit_code = 1


class Stopped(Exception):
    """A signal or a guard has stopped the run: the verbs print the message, if any, and exit with `exit_code`."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def did_you_mean(word: str, known) -> str:
    """Return the end of an error message, as `; did you mean 'resnet18'?`, or "" if no known word is similar."""
    from difflib import get_close_matches

    matches = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def one_line(error: BaseException) -> str:
    """Return an exception's message as one line of at most 200 characters, or the name of its type if it has none."""
    return " ".join(str(error).split())[:200] or type(error).__name__
