"""The template's later fixes for a clone, by git's own three-way merge.

Of the template's two versions, that which the clone was made from and today's, a clone is made anew, each by its own
code. What changed between those is picked, as a commit, onto what the owner has: his changes stay, and where both
changed the same lines, git marks the conflict.
"""

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from kit.cloning import git
from kit.cloning.template import Template, Version
from kit.ground.errors import UserError

# What a checkout's own Python is told: to make a clone, whatever names and tasks its command line would take by now.
MAKE = """\
import sys
from pathlib import Path

try:
    from kit.cloning.making import make
    from kit.cloning.template import Template
    from kit.ground.errors import UserError
except ImportError:  # a version of the template before it had a library
    from project import UserError
    from project.cloning.making import make
    from project.cloning.template import Template

folder, name, *tasks = sys.argv[1:]
try:
    make(Template.here(), Path(folder), name, tasks)
except UserError as error:
    sys.exit(str(error))
"""


class Conflict(UserError):
    """The template and the owner have changed the same lines: he decides."""

    exit_code = 1


def update(template: Template, folder: Path) -> str:
    """Adds a commit to the clone's history, and says what was done.

    Raises:
        Conflict: git has marked where both have changed the same.
        UserError: it is no clone, or has changes that are not committed; or the template does not have its version.
    """
    origin = _origin(folder)
    then = Version(origin["version"], origin["commit"])
    _refuse_unfinished(folder)
    now = template.version()
    if not now.commit:
        raise UserError("the template has no history here: clone it with git, and run this there")
    if not origin["commit"]:
        raise UserError(f"{folder} was made from a template without a history: what has changed since is not known")
    if git.output(template.root, "cat-file", "-e", f"{origin['commit']}^{{commit}}") is None:
        raise UserError(f"the template here does not know its version {then} (yet): git pull")
    if origin["commit"] == now.commit:
        return f"{folder} is up to date with the template {now}"
    with tempfile.TemporaryDirectory() as temporary:
        before, after = (
            _made_anew(template.root, Path(temporary), which, number, origin)
            for number, which in enumerate((origin["commit"], now.commit))
        )
        gone = [task for task in origin["tasks"] if task not in _origin(after)["tasks"]]
        base, made = (_fetched(folder, made) for made in (before, after))
    _refuse_to_overwrite(folder, base, made)
    message = f"Update from the template: {then} to {now}"
    if gone:
        message += f"; no longer in it, and taken out here: {', '.join(gone)}"
    words = ("commit-tree", f"{made}^{{tree}}", "-p", base, "-m", message)
    changes = git.run(folder, *words, **git.author(folder)).strip()
    return _pick(folder, changes, message)


def _origin(folder: Path) -> dict[str, Any]:
    """The table that `project.new` left in pyproject.toml."""
    try:
        origin = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["template"]
        return {key: origin[key] for key in ("name", "tasks", "version", "commit")}
    except (OSError, tomllib.TOMLDecodeError, KeyError):
        raise UserError(f"{folder} is no clone: no pyproject.toml there that has [tool.template]") from None


def _refuse_unfinished(folder: Path) -> None:
    root = git.output(folder, "rev-parse", "--show-toplevel")
    if root is None or Path(root.strip()).resolve() != folder.resolve():
        raise UserError(f"{folder} is not the root of a git repository: git init, add and commit there first")
    if git.run(folder, "status", "--porcelain", "--untracked-files=no").strip():
        raise UserError(f"{folder} has changes that are not committed: git commit (or git stash) them first")


def _made_anew(template: Path, temporary: Path, version: str, number: int, origin: dict[str, Any]) -> Path:
    """The clone as a version of the template makes it, by that version's own code, of the tasks that it has."""
    checkout, made = temporary / f"template_{number}", temporary / f"made_{number}" / origin["name"]
    git.run(temporary, "clone", "--quiet", "--shared", "--no-checkout", str(template), str(checkout))
    git.run(checkout, "checkout", "--quiet", "--detach", version)
    made.parent.mkdir()
    tasks = [task for task in origin["tasks"] if task in Template(checkout).tasks]
    if not tasks:
        raise UserError(f"the template {version[:10]} has no task {' and no '.join(origin['tasks'])}")
    environment = {**git.environment(), "PYTHONPATH": str(checkout / "src")}
    words = [sys.executable, "-c", MAKE, str(made), origin["name"], *tasks]
    ended = subprocess.run(
        words, cwd=checkout, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if ended.returncode:
        said = (ended.stderr.strip().splitlines() or ["it failed"])[-1]  # of a traceback, what was raised
        raise UserError(f"the template {version[:10]} does not make {origin['name']}: {said}")
    return made


def _fetched(folder: Path, made: Path) -> str:
    """The name of what was made, as a commit in the clone's own repository."""
    git.run(folder, "fetch", "--quiet", "--no-tags", str(made), "HEAD")
    return git.run(folder, "rev-parse", "FETCH_HEAD").strip()


def _refuse_to_overwrite(folder: Path, base: str, made: str) -> None:
    """git itself would take files that it ignores for worth nothing, and write over them."""
    names = git.run(folder, "diff", "--name-only", "-z", "--no-renames", "--diff-filter=d", base, made)
    written = names.strip("\0").split("\0")
    parents = {parent for name in written for parent in Path(name).parents}
    no_folders = sorted(str(path) for path in parents if (folder / path).is_symlink() or (folder / path).is_file())
    others = ["--literal-pathspecs", "ls-files", "--others", "-z", "--"]  # that git does not track
    if there := git.run(folder, *others, *written, *no_folders).strip("\0"):
        raise UserError(
            f"nothing was changed in {folder}: the update would overwrite {there.replace(chr(0), ', ')}, "
            "which git does not track; git add --force and commit it, or move it away"
        )


def _pick(folder: Path, changes: str, message: str) -> str:
    environment = {**git.environment(), **git.author(folder), "LC_ALL": "C"}
    ended = subprocess.run(["git", "cherry-pick", changes], cwd=folder, env=environment, capture_output=True, text=True)
    if ended.returncode == 0:
        changed = git.run(folder, "diff", "--shortstat", "HEAD~1", "HEAD").strip()
        return f"{message}\n{changed}, in a commit of its own; next: cd {os.path.relpath(folder)} && make test"
    said = "\n".join(line for line in (ended.stdout + ended.stderr).splitlines() if not line.startswith("hint:"))
    if git.output(folder, "rev-parse", "--verify", "--quiet", "CHERRY_PICK_HEAD") is None:
        raise UserError(f"nothing was changed in {folder}: {said}")
    raise Conflict(
        f"{folder}: the template and you have changed the same lines\n{message}\n{said}\n"
        "mend the files, git add them, then: git cherry-pick --continue (or --abort, and all is as it was)"
    )
