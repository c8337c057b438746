"""Update a clone to the current version of the template, by a three-way merge of git.

The clone is made again twice: from the version of the template that it came from, and from the current version, each
with the code of that version. `git cherry-pick` applies the difference between the two to the owner's clone as one
commit. The owner's changes stay. If the owner and the template changed the same lines, git marks the conflict.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from kit.cloning import git
from kit.cloning.template import Template, Version
from kit.ground.errors import RunFailed, UserError

# This program is run with the code of each of the two versions. Their command lines might refuse the name or the tasks.
MAKE = """
from pathlib import Path
from sys import argv
from kit.cloning import making, template
making.make(template.Template.here(), Path(argv[1]), argv[2], argv[3:])
"""


def update(template: Template, folder: Path) -> str:
    """Update a clone by adding a commit to its history, and return a summary.

    Raises:
        RunFailed: the template and the owner have changed the same lines. Git has marked these conflicts in the files.
        UserError: the update is not possible, and nothing was changed.
    """
    origin = _origin(folder)
    old, new = Version(origin["version"], origin["commit"]), template.version()
    if not (folder / ".git").exists():
        raise UserError(f"{folder} is not the root of a git repository: git init, add and commit there first")
    if git.run(folder, "status", "--porcelain", "--untracked-files=no").strip():
        raise UserError(f"{folder} has changes that are not committed: git commit (or git stash) them first")
    if git.output(template.root, "cat-file", "-e", f"{old.commit}^{{commit}}") is None:
        raise UserError(f"the template here does not contain the version {old}: git pull")
    if old.commit == new.commit:
        return f"{folder} is up to date with the template {new}"
    message = f"Update from the template: {old} to {new}"
    with tempfile.TemporaryDirectory() as temporary:
        old_clone = _make_again(template.root, Path(temporary, "before"), old.commit, origin, folder)
        new_clone = _make_again(template.root, Path(temporary, "after"), new.commit, origin, folder)
    if removed_tasks := [task for task in origin["tasks"] if task not in template.tasks]:
        message += f"; removed as in the template: {', '.join(removed_tasks)}"
    _refuse_to_overwrite(folder, old_clone, new_clone)
    changes = git.run(folder, "commit-tree", f"{new_clone}^{{tree}}", "-p", old_clone, "-m", message).strip()
    return _cherry_pick(folder, changes, message)


def _origin(folder: Path) -> dict[str, Any]:
    """Return name, tasks, version and commit from the table [tool.template] in the clone's pyproject.toml."""
    try:
        origin = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["template"]
        return {key: origin[key] for key in ("name", "tasks", "version", "commit")}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError):
        raise UserError(f"{folder} is not a clone: it has no pyproject.toml with [tool.template]") from None


def _make_again(root: Path, temporary: Path, commit: str, origin: dict[str, Any], folder: Path) -> str:
    """Make a clone from a commit of the template, and fetch it into the repository of the owner's clone.

    Args:
        root: the template's checkout.
        temporary: the path of a folder for the checkout of the commit and for the new clone.
        commit: the template's commit.
        origin: the result of `_origin`.
        folder: the owner's clone.

    Returns:
        the hash of the fetched commit.

    Raises:
        UserError: the commit has no `src/kit` or none of the clone's tasks, or the clone cannot be made.
    """
    checkout, clone = temporary / "template", temporary / "clone" / origin["name"]
    clone.parent.mkdir(parents=True)
    git.run(temporary, "clone", "--quiet", "--shared", "--no-checkout", str(root), str(checkout))
    git.run(checkout, "checkout", "--quiet", "--detach", commit)
    if not (checkout / "src/kit").is_dir():  # Python would find another version of the library
        raise UserError(f"the template {commit[:10]} has no src/kit, and is too old to update from: start anew")
    tasks = [task for task in origin["tasks"] if task in Template(checkout).tasks]
    if not tasks:
        raise UserError(f"the template {commit[:10]} has no task {' and no '.join(origin['tasks'])}")
    variables = {**git.environment(), "PYTHONPATH": str(checkout / "src")}
    words = [sys.executable, "-c", MAKE, str(clone), origin["name"], *tasks]
    process = subprocess.run(words, cwd=checkout, env=variables, capture_output=True, text=True)
    if process.returncode:
        why = (process.stderr.strip().splitlines() or ["it failed"])[-1].split("UserError: ")[-1]
        raise UserError(f"the template {commit[:10]} cannot make {origin['name']}: {why}")
    git.run(folder, "fetch", "--quiet", "--no-tags", str(clone), "HEAD")
    return git.run(folder, "rev-parse", "FETCH_HEAD").strip()


def _refuse_to_overwrite(folder: Path, old_clone: str, new_clone: str) -> None:
    """Refuse an update that would overwrite untracked files. Git itself would overwrite files that it ignores."""
    names = git.run(folder, "diff", "--name-only", "-z", "--no-renames", "--diff-filter=d", old_clone, new_clone)
    new_paths = {Path(name) for name in names.split("\0") if name}
    paths_and_parents = new_paths.union(*(path.parents for path in new_paths))
    untracked = [Path(name) for name in git.run(folder, "ls-files", "--others", "-z").split("\0") if name]
    if files := [str(path) for path in untracked if path in paths_and_parents or new_paths & {*path.parents}]:
        remedy = "git add --force and commit it, or move it away"
        overwritten = f"the update would overwrite {', '.join(files)}, which git does not track"
        raise UserError(f"nothing was changed in {folder}: {overwritten}; {remedy}")


def _cherry_pick(folder: Path, changes: str, message: str) -> str:
    """Apply the commit `changes` to a clone, and return a summary that begins with `message`."""
    process = git.call(folder, "cherry-pick", changes)
    if process.returncode == 0:
        statistics = git.run(folder, "diff", "--shortstat", "HEAD~1", "HEAD").strip()
        return f"{message}\n{statistics}, in a commit of its own; next: cd {folder} && make test"
    output = "\n".join(line for line in (process.stdout + process.stderr).splitlines() if not line.startswith("hint:"))
    if git.output(folder, "rev-parse", "--verify", "--quiet", "CHERRY_PICK_HEAD") is None:
        raise UserError(f"nothing was changed in {folder}: {output}")
    remedy = "resolve the conflicts, git add the files, then: git cherry-pick --continue (or --abort to undo this)"
    raise RunFailed(f"{folder}: the template and you have changed the same lines\n{message}\n{output}\n{remedy}")
