"""Describe the checkout that is cloned: its package, tasks, files and version."""

import re
import tomllib
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from kit.cloning import git
from kit.ground.errors import UserError


class Version(NamedTuple):
    """A version of the template.

    number: the version in pyproject.toml.
    commit: the hash of the commit.
    url: the address of the template's repository, or "" if it is only on this machine.
    """

    number: str
    commit: str
    url: str = ""

    def __str__(self) -> str:
        return f"{self.number} ({self.commit[:10]})"


class Template:
    """A git checkout of the template in the folder `root`.

    Raises:
        UserError: the folder is not a git checkout of the template.
    """

    def __init__(self, root: Path) -> None:
        if not git.output(root, "ls-files", "pyproject.toml"):
            raise UserError(f"{root} is not a git checkout: git clone the template, and run this command there")
        metadata = tomllib.loads((root / "pyproject.toml").read_text())["project"]
        self.root, self.package, self.number = root, metadata["name"], metadata["version"]

    @classmethod
    def here(cls) -> "Template":
        """Return the template that contains this code."""
        return cls(Path(__file__).resolve().parents[3])

    @cached_property
    def tasks(self) -> list[str]:
        """The names of the package's folders in which git tracks a `task.py`."""
        return [file.split("/")[2] for file in self.files() if re.fullmatch(rf"src/{self.package}/\w+/task\.py", file)]

    def files(self) -> list[str]:
        """Return the paths of the files that git tracks."""
        tracked = git.run(self.root, "ls-files", "-z").split("\0")
        return sorted(name for name in tracked if name and (self.root / name).is_file())

    def untracked_paths(self) -> list[str]:
        """Return the paths of files that git neither tracks nor ignores, except hidden files.

        If git tracks no file of a folder, the folder's path with a `/` at the end stands for its files.
        """
        entries = git.run(self.root, "status", "--porcelain", "-z", "--untracked-files=normal").split("\0")
        return [entry.removeprefix("?? ") for entry in entries if re.match(r"\?\? (?!.*/\.)[^.]", entry)]

    def version(self) -> Version:
        commit = git.run(self.root, "rev-parse", "HEAD")
        remote = git.output(self.root, "remote", "get-url", "origin") or ""
        return Version(self.number, commit.strip(), address(remote.strip()))


def address(remote: str) -> str:
    """Return the address of a remote repository, or "" if it is a path on this machine.

    The user and password of an https address are removed.
    """
    has_host = re.fullmatch(r"""((https?|ssh|git)://|[\w.-]+@[\w.-]+:)[^\s"\\]+""", remote)
    return re.sub(r"^(https?://)[^/]*@", r"\1", remote) if has_host else ""
