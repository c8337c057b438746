"""git, asked and told from Python."""

import os
import shutil
import subprocess
from pathlib import Path

from kit.ground.errors import UserError

# `git rev-parse --local-env-vars`, without those of the configuration
OF_A_REPOSITORY = {
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
}


def environment() -> dict[str, str]:
    """Without what a git hook sets, which would point at another repository."""
    return {key: value for key, value in os.environ.items() if key not in OF_A_REPOSITORY}


def output(folder: Path, *words: str) -> str | None:
    """What git prints; None where there is no git, or where it fails."""
    if shutil.which("git") is None:
        return None
    ended = subprocess.run(["git", *words], cwd=folder, env=environment(), capture_output=True, text=True)
    return ended.stdout if ended.returncode == 0 else None


def run(folder: Path, *words: str, **variables: str) -> str:
    """What git prints.

    Args:
        variables: of the environment.

    Raises:
        UserError: it fails; with the first line of what it says.
    """
    command = ["git", *words]
    ended = subprocess.run(command, cwd=folder, env={**environment(), **variables}, capture_output=True, text=True)
    if ended.returncode:
        said = (ended.stderr or ended.stdout).strip().splitlines() or ["it failed"]
        raise UserError(f"git {words[0]}, in {folder}: {said[0]}")
    return ended.stdout


def author(folder: Path) -> dict[str, str]:
    """For a commit: nothing where git knows who commits, else somebody who is nobody."""
    if output(folder, "var", "GIT_AUTHOR_IDENT") and output(folder, "var", "GIT_COMMITTER_IDENT"):
        return {}
    name = {f"GIT_{who}_NAME": "nobody" for who in ("AUTHOR", "COMMITTER")}
    return name | {f"GIT_{who}_EMAIL": "nobody@localhost" for who in ("AUTHOR", "COMMITTER")}
