"""What stands on a command line, before it is parsed: `--KEY VALUE` and `--KEY=VALUE`."""

from itertools import pairwise


def options(args: list[str], name: str) -> list[str]:
    """All values of an option."""
    apart = [value for key, value in pairwise(args) if key == name]
    return apart + [argument.split("=", 1)[1] for argument in args if argument.startswith(f"{name}=")]


def option(args: list[str], name: str) -> str | None:
    """The value that counts, which is the last."""
    return (options(args, name) or [None])[-1]


def apart(args: list[str]) -> tuple[list[str], list[str]]:
    """The words that stand alone, and the options with their values; where each option but `--help` has one value.

    Words may stand between options, which argparse does not understand; after `--` all are words.
    """
    words: list[str] = []
    keys: list[str] = []
    left = iter(args)
    for argument in left:
        if argument == "--":
            words += left
        elif not argument.startswith("-"):
            words.append(argument)
        else:
            keys.append(argument)
            if argument.startswith("--") and argument != "--help" and "=" not in argument:
                keys += [value for value in (next(left, None),) if value is not None]
    return words, keys


def without(args: list[str], name: str) -> list[str]:
    """The command line as if the option were not there."""
    kept = [value for key, value in zip(["", *args], args, strict=False) if name not in (key, value)]
    return [argument for argument in kept if not argument.startswith(f"{name}=")]
