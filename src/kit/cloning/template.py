"""The checkout that is cloned: its package, its tasks, its files, its version."""

import re
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from kit.cloning import git
from kit.ground.errors import UserError


@dataclass(frozen=True)
class Version:
    """A version of the template."""

    number: str  # in pyproject.toml
    commit: str = ""  # git's name of it; empty if the checkout has no history
    changed: bool = False  # whether files differ from what was committed
    url: str = ""  # where others find the template; empty if that is not known

    def __str__(self) -> str:
        return f"{self.number} ({self.commit[:10]})" if self.commit else self.number


class Template:
    """A checkout of the template in the folder `root`. Raise `UserError` if there is none."""

    def __init__(self, root: Path) -> None:
        if not all((root / part).exists() for part in ("pyproject.toml", "configs", "src")):
            raise UserError("this package has no checkout: clone the template with git, and run it from there")
        about = tomllib.loads((root / "pyproject.toml").read_text())["project"]
        self.root, self.package, self.number = root, about["name"], about["version"]

    @classmethod
    def here(cls) -> "Template":
        """Return the template that this code belongs to."""
        return cls(Path(__file__).resolve().parents[3])

    @property
    def tasks(self) -> list[str]:
        return sorted(file.parent.name for file in (self.root / "src" / self.package).glob("*/task.py"))

    def files(self) -> list[str]:
        """Return the paths that git tracks; without a repository, those that `.gitignore` does not name."""
        tracked = git.output(self.root, "ls-files", "-z")
        if not tracked:
            with tempfile.TemporaryDirectory() as empty:
                git.run(self.root, "init", "--quiet", "--bare", empty)
                place = (f"--git-dir={empty}", f"--work-tree={self.root}")
                tracked = git.run(self.root, *place, "ls-files", "-z", "--others", "--exclude-standard")
        return sorted(name for name in tracked.split("\0") if name and (self.root / name).is_file())

    def version(self) -> Version:
        if not git.output(self.root, "ls-files", "pyproject.toml"):
            return Version(self.number)
        commit = git.output(self.root, "rev-parse", "--verify", "--quiet", "HEAD") or ""
        changed = bool(git.output(self.root, "status", "--porcelain", "-uno"))
        remote = git.output(self.root, "remote", "get-url", "origin") or ""
        return Version(self.number, commit.strip(), changed, address(remote.strip()))


def address(remote: str) -> str:
    """Return where others find a remote repository, without passwords; nothing if it is a path on this machine."""
    if not re.fullmatch(r"""((https?|ssh|git)://|[\w.-]+@[\w.-]+:)[^\s"\\]+""", remote):
        return ""
    return re.sub(r"^(https?://)[^/]*@", r"\1", remote)
