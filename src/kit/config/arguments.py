"""Split a command line before it is parsed. Options are `--KEY VALUE` and `--KEY=VALUE`."""

from argparse import ArgumentError, ArgumentParser
from itertools import islice

from kit.ground.errors import UserError


def extract_option(args: list[str], *flags: str) -> tuple[list[str], list[str]]:
    """Return the values of an option, and the command line without it.

    Args:
        flags: the names of the option, such as `--config` and `-c`.

    Raises:
        UserError: the option has no value.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(*flags, dest="values", action="append", default=[])
    try:
        option, others = parser.parse_known_args(args)
    except ArgumentError as error:
        raise UserError(str(error)) from None
    return option.values, others


def option_value(args: list[str], *flags: str) -> str | None:
    """Return the last value of an option, or None."""
    return (extract_option(args, *flags)[0] or [None])[-1]


def split_words(args: list[str]) -> tuple[list[str], list[str]]:
    """Split a command line into words (positional arguments) and options with their values.

    Words may stand between options, which argparse does not allow. Each option except `--help` has one value. After
    `--`, all arguments are words.
    """
    words: list[str] = []
    options: list[str] = []
    rest = iter(args)
    for argument in rest:
        if argument == "--":
            words += rest
        elif not argument.startswith("-"):
            words.append(argument)
        else:
            options.append(argument)
            if argument.startswith("--") and argument != "--help" and "=" not in argument:
                options += islice(rest, 1)
    return words, options
