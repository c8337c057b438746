"""What a clone's package may be called, and its renaming."""

import keyword
import re
import sys
import sysconfig
from importlib.machinery import PathFinder

OLD = "project"

# `project` where it means the package, and not the English word, nor a table of pyproject.toml.
MEANT = re.compile(
    r"""
    (?<![\w.\-]) (?<!^\[) project (?= \\* \. [\w*({\\[] )    # project.load, and in expressions project\.(\w+)
  | (?: (?<= src/ ) | (?<= tests/ ) ) project \b
  | (?<= ["'`] ) project (?= ["'`\[] )                       # "project", "project[zoo]"
  | (?<= \bimport\  ) project \b
  | (?<= \bfrom\  ) project (?= \ import\b )
  | project (?= \ ->\  ) | (?<= ->\  ) project \b            # of import-linter
    """,
    re.VERBOSE | re.MULTILINE,
)


def renamed(text: str, name: str) -> str:
    return MEANT.sub(name, text)


def reason_against(name: str, tasks: list[str], folders: set[str]) -> str | None:
    """Why a package should not have that name, if there is a reason.

    Args:
        tasks: the template's.
        folders: those of a clone's root: Python, started there, would find them first.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        return "a package's name has lower-case letters, digits and underscores, and begins with a letter"
    if keyword.iskeyword(name):
        return "a word of Python's own"
    if name == OLD:
        return "the template's own name"
    if name in tasks or name in folders:
        return "the name of one of its own folders"
    if name in sys.stdlib_module_names:
        return "Python has a module of that name"
    if PathFinder.find_spec(name, [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]) is not None:
        return "a package of that name is installed here"
    return None
