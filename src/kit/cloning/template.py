"""The checkout that is cloned: its tasks, its files, its version."""

import re
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from kit.cloning import git
from kit.ground.errors import UserError

PACKAGE = "src/project"


@dataclass(frozen=True)
class Version:
    """
    number: pyproject's.
    commit: git's name of the commit; empty where the checkout has no git.
    changed: files are not as they were committed.
    url: of the repository that the checkout was cloned from; empty where it has none, or one on this machine.
    """

    number: str
    commit: str = ""
    changed: bool = False
    url: str = ""

    def __str__(self) -> str:
        return f"{self.number} ({self.commit[:10]})" if self.commit else self.number


class Template:
    """
    Args:
        root: the checkout's folder.

    Raises:
        UserError: it is none.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        if not all((root / part).exists() for part in ("pyproject.toml", "configs", PACKAGE)):
            raise UserError("this package has no checkout: clone the template with git, and run it from there")

    @classmethod
    def here(cls) -> "Template":
        """The one that this code belongs to."""
        return cls(Path(__file__).resolve().parents[3])

    @property
    def tasks(self) -> list[str]:
        return sorted(file.parent.name for file in (self.root / PACKAGE).glob("*/task.py"))

    def files(self) -> list[str]:
        """Relative to the root: what git tracks and is there; without git, all that `.gitignore` does not name."""
        tracked = git.output(self.root, "ls-files", "-z")
        if tracked:
            return sorted(name for name in tracked.split("\0") if name and (self.root / name).is_file())
        patterns = _ignored(self.root / ".gitignore")
        return sorted(
            file.relative_to(self.root).as_posix()
            for file in self.root.rglob("*")
            if file.is_file() and not _matches(file.relative_to(self.root), patterns)
        )

    def version(self) -> Version:
        number = tomllib.loads((self.root / "pyproject.toml").read_text())["project"]["version"]
        if not git.output(self.root, "ls-files", "pyproject.toml"):
            return Version(number)
        commit = git.output(self.root, "rev-parse", "--verify", "--quiet", "HEAD") or ""
        changed = bool(git.output(self.root, "status", "--porcelain", "-uno"))
        remote = git.output(self.root, "remote", "get-url", "origin") or ""
        return Version(number, commit.strip(), changed, address(remote.strip()))


def address(remote: str) -> str:
    """Where others find a repository that git calls so, without passwords; nothing if it is a path on this machine."""
    if not re.fullmatch(r"""((https?|ssh|git)://|[\w.-]+@[\w.-]+:)[^\s"\\]+""", remote):
        return ""
    return re.sub(r"^(https?://)[^/]*@", r"\1", remote)


def _ignored(file: Path) -> list[str]:
    """The patterns of a `.gitignore` as simple as the template's: names, and paths from the root."""
    lines = file.read_text().splitlines() if file.is_file() else []
    return [".git", *(line.rstrip("/") for line in lines if line and not re.match(r"[#!]", line))]


def _matches(path: Path, patterns: list[str]) -> bool:
    """Whether it, or a folder that it lies in, is named by one of them."""
    parts = path.parts
    for depth in range(1, len(parts) + 1):
        whole = "/" + "/".join(parts[:depth])
        if any(fnmatch(whole if "/" in pattern else parts[depth - 1], pattern) for pattern in patterns):
            return True
    return False
