"""Search and sort the arguments of a command line before it is parsed. Options are `--KEY VALUE` and `--KEY=VALUE`."""

from itertools import islice, pairwise


def option_values(args: list[str], name: str) -> list[str]:
    """Return all values of an option."""
    separate = [value for key, value in pairwise(args) if key == name]
    return separate + [argument.split("=", 1)[1] for argument in args if argument.startswith(f"{name}=")]


def option_value(args: list[str], name: str) -> str | None:
    """Return the last value of an option, which is the one that counts, or None."""
    return (option_values(args, name) or [None])[-1]


def split_words(args: list[str]) -> tuple[list[str], list[str]]:
    """Split a command line into words (positional arguments) and options with their values.

    Words may be between options, which argparse does not allow. Each option but `--help` has one value. After `--`, all
    arguments are words.
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


def without_option(args: list[str], name: str) -> list[str]:
    """Return a command line without an option and its values."""
    others = [value for key, value in zip(["", *args], args, strict=False) if name not in (key, value)]
    return [argument for argument in others if not argument.startswith(f"{name}=")]


def configs_first(args: list[str]) -> list[str]:
    """Return a command line with each `--config FILE` first, since the parser lets the last value of a key win."""
    configs, others, rest = [], [], iter(args)
    for argument in rest:
        if argument in ("--config", "-c"):
            configs += [argument, *islice(rest, 1)]
        elif argument.startswith("--config="):
            configs.append(argument)
        else:
            others.append(argument)
    return configs + others
