"""Exceptions that end a program in one line, and helpers for their messages."""


class UserError(Exception):
    """A mistake of the user's: the verbs print it as one line, without a traceback, and exit with `exit_code`."""

    exit_code = 2


class BrokenFiles(UserError):
    """Files that cannot be read: the command was right, the data are not."""

    exit_code = 1


class UnreachableFiles(BrokenFiles):
    """Files that the system could not read: a permission is missing, a disk fails, or a share is gone.

    Nothing is known about what they hold, so they are not left out as broken ones are.
    """


class NotMeasured(UserError):
    """A metric is not finite, or the data have nothing to measure: the command was right, but there is no result."""

    exit_code = 1


class Stopped(Exception):
    """A signal has ended the run: the verbs print what it says, if anything, and exit with `exit_code`."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def nearest(word: str, known) -> str:
    """The end of an error message: `; did you mean 'resnet18'?`, or nothing where no known word is near."""
    from difflib import get_close_matches

    found = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{found[0]}'?" if found else ""


def in_a_line(error: BaseException) -> str:
    """Return an exception's message as one line of at most 200 characters, or the name of its type if it has none."""
    return " ".join(str(error).split())[:200] or type(error).__name__
