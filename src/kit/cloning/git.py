"""Run git."""

import os
import subprocess
from pathlib import Path

from kit.ground.errors import UserError


def environment() -> dict[str, str]:
    """Return the environment without the variables of a git hook, which would lead git to another repository."""
    local = subprocess.run(["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True).stdout.split()
    return {key: value for key, value in os.environ.items() if key.startswith("GIT_CONFIG") or key not in local}


def call(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run git in a folder, with variables of the environment, and return what it printed and its exit code."""
    return subprocess.run(
        ["git", *words], cwd=folder, env={**environment(), **variables, "LC_ALL": "C"}, capture_output=True, text=True
    )


def output(folder: Path, *words: str) -> str | None:
    """Return what git prints, or None if it fails."""
    ended = call(folder, *words)
    return ended.stdout if ended.returncode == 0 else None


def run(folder: Path, *words: str) -> str:
    """Return what git prints; raise `UserError` with the first line of its message if it fails."""
    ended = call(folder, *words, **author(folder))
    if ended.returncode:
        message = (ended.stderr or ended.stdout).strip().splitlines() or ["it failed"]
        raise UserError(f"git {words[0]}, in {folder}: {message[0]}")
    return ended.stdout


def author(folder: Path) -> dict[str, str]:
    """Return variables for a commit: none if git knows who commits, else a name that is nobody's."""
    people = ("AUTHOR", "COMMITTER")
    if all(output(folder, "var", f"GIT_{who}_IDENT") for who in people):
        return {}
    return {f"GIT_{who}_NAME": "nobody" for who in people} | {f"GIT_{who}_EMAIL": "nobody@localhost" for who in people}
