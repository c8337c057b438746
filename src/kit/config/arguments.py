"""Split a command line before it is parsed. Options are `--KEY VALUE` and `--KEY=VALUE`."""

from collections.abc import Iterator

from kit.ground.errors import UserError

HELP = ("-h", "--help")


def scan(args: list[str]) -> Iterator[tuple[str, str | None, list[str]]]:
    """Yield each option and each word (positional argument) of a command line.

    Words may stand between options, which argparse does not allow. After `--`, all arguments are words.

    Yields:
        (name, value, arguments): the option's name, such as `--data.root`, or "" for a word; the option's value or
        None, or the word itself; and the one or two arguments that were read
    """
    rest = list(args)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            yield from (("", word, [word]) for word in rest)
            return
        name, sign, value = argument.partition("=")
        if not argument.startswith("-"):
            yield "", argument, [argument]
        elif sign:
            yield name, value, [argument]
        elif argument in HELP or not rest or rest[0].startswith("--"):
            yield argument, None, [argument]
        else:
            yield argument, rest[0], [argument, rest.pop(0)]


def extract_option(args: list[str], *flags: str) -> tuple[list[str], list[str]]:
    """Return the values of an option, and the command line without it.

    Args:
        flags: the names of the option, such as `--config` and `-c`.

    Raises:
        UserError: the option has no value.
    """
    values: list[str] = []
    others: list[str] = []
    for name, value, arguments in scan(args):
        if name not in flags:
            others += arguments
        elif value is None:
            raise UserError(f"{name} needs a value: {name} VALUE")
        else:
            values.append(value)
    return values, others


def option_value(args: list[str], *flags: str) -> str | None:
    """Return the last value of an option, or None."""
    return (extract_option(args, *flags)[0] or [None])[-1]


def split_words(args: list[str]) -> tuple[list[str], list[str]]:
    """Return the words of a command line, and its options with their values."""
    scanned = list(scan(args))
    words = [value for name, value, _ in scanned if not name and value is not None]
    return words, [argument for name, _, arguments in scanned if name for argument in arguments]
