"""Run git."""

import os
import subprocess
from pathlib import Path

from kit.ground.errors import UserError


def environment() -> dict[str, str]:
    """Return the environment without the variables that git sets in hooks: they would select another repository."""
    # Variables that only set configuration (GIT_CONFIG...) stay, since they select no repository.
    local = subprocess.run(["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True).stdout.split()
    return {key: value for key, value in os.environ.items() if key.startswith("GIT_CONFIG") or key not in local}


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run git with some arguments in a folder. Commits get a placeholder author if git knows no author."""
    variables = environment()
    for who in ("AUTHOR", "COMMITTER"):
        identity = subprocess.run(["git", "var", f"GIT_{who}_IDENT"], cwd=folder, env=variables, capture_output=True)
        if identity.returncode:
            variables |= {f"GIT_{who}_NAME": "nobody", f"GIT_{who}_EMAIL": "nobody@localhost"}
    variables["LC_ALL"] = "C"
    # File names need not be UTF-8.
    return subprocess.run(["git", *words], cwd=folder, env=variables, capture_output=True, errors="surrogateescape")


def output(folder: Path, *words: str) -> str | None:
    """Return the output of git, or None if it fails."""
    process = call(folder, *words)
    return process.stdout if process.returncode == 0 else None


def run(folder: Path, *words: str) -> str:
    """Return the output of git.

    Raises:
        UserError: git fails. The error has the first line of git's message.
    """
    process = call(folder, *words)
    if process.returncode:
        message = (process.stderr or process.stdout).strip().splitlines() or ["it failed"]
        raise UserError(f"git {words[0]}, in {folder}: {message[0]}")
    return process.stdout
