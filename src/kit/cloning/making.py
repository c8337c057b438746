"""Make a clone of the template, completely or not at all.

The names of files, and marks in them such as `# only: detection`, decide what a clone contains. docs/cloning.md has the
rules.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from kit.cloning import git
from kit.cloning.template import Template, Version
from kit.ground.errors import UserError

LIBRARY = ("src/kit/", "tests/kit/")  # folders that are copied unchanged
ONLY_IN_CLONES = "clone/"  # the files in this folder go to the root of a clone
NOT_IN_CLONES = ("tests/cloning/", "benchmarks/", "docs/cloning.md", "docs/new_task.md", "README.md", "CHANGELOG.md")
ALSO_IN_CLONES = ("benchmarks/learning.py",)  # exceptions to `NOT_IN_CLONES`
OTHER_NAMES = {"basics": "classification"}  # maps the name of a file that is not named after its task to that task
# Except in these folders and in the files of a single task, paths such as configs/classification.yaml are changed to
# those of the clone's first task.
CODE = ("src/", "tests/", "benchmarks/", "notebooks/")
BEGIN = re.compile(r"\s*(?:#|<!--) only: ([\w, ]+?)(?: -->)?$")
END = re.compile(r"\s*(?:#|<!--) end only(?: -->)?$")


def make(template: Template, folder: Path, name: str, tasks: list[str]) -> Version:
    """Write a clone beside `folder`, with a git history of one commit, and then move it to `folder`.

    Raises:
        UserError: no clone can be made there.
    """
    if folder.resolve().is_relative_to(template.root.resolve()):
        raise UserError(f"{folder} lies in the template's own folder; choose a folder outside")
    version, part = template.version(), folder.with_name(f".{folder.name}.part{os.getpid()}")
    try:
        for file, (source, text) in contents(template, name, tasks, version).items():
            (part / file).parent.mkdir(parents=True, exist_ok=True)
            (part / file).write_bytes(text.encode("utf-8", "surrogateescape"))
            shutil.copymode(template.root / source, part / file)
        _format(part)
        git.run(part, "init", "--quiet", "--initial-branch=main")
        git.run(part, "add", "--all", "--force")
        message = f"Begin from the template {version}: {', '.join(tasks)}"
        git.run(part, "-c", "commit.gpgsign=false", "commit", "--quiet", "--no-verify", "-m", message)
        part.rename(folder)  # only an empty folder is replaced
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror or error}); choose a new folder") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return version


def contents(template: Template, name: str, tasks: list[str], version: Version) -> dict[str, tuple[str, str]]:
    """Return a dictionary from the path of each file in a clone to (its path in the template, its text)."""
    values = {"CLONE_NAME": name, "CLONE_TASKS": " and ".join(tasks), "CLONE_LIST": '", "'.join(tasks)}
    values |= {"TEMPLATE_VERSION": version.number, "TEMPLATE_COMMIT": version.commit, "TEMPLATE_URL": version.url}
    result, excluded_paths = {}, (*NOT_IN_CLONES, f"src/{template.package}/new.py")
    for file in template.files():
        text = (template.root / file).read_bytes().decode("utf-8", "surrogateescape")  # keeps the bytes of pictures
        task = task_of(file, template.tasks)
        if file.startswith(LIBRARY):
            result[file] = file, text
        elif task in tasks or file in ALSO_IN_CLONES or (task is None and not file.startswith(excluded_paths)):
            text = remove_marks(text, tasks)
            if task is None and not file.startswith(CODE):
                text = re.sub(rf"\b(configs|runs)/{template.tasks[0]}(?=\.yaml|/)", rf"\1/{tasks[0]}", text)
            text = rename_package(text, template.package, name)
            for placeholder, value in values.items():
                text = text.replace(placeholder, value)
            result[rename_package(file.removeprefix(ONLY_IN_CLONES), template.package, name)] = file, text
    return result


def task_of(file: str, tasks: list[str]) -> str | None:
    """Return the task that a file or its folder is named after (`TASK`, `TASK.md`, `TASK_x.yaml`), or None."""
    stems = [part.split(".")[0] for part in Path(file).parts]
    for name, task in (OTHER_NAMES | dict(zip(tasks, tasks, strict=True))).items():
        if any(stem == name or stem.startswith(f"{name}_") for stem in stems):
            return task
    return None


def remove_marks(text: str, tasks: list[str]) -> str:
    """Remove marks from a text, and lines that are marked for other tasks.

    A line marked `# only: NAME` or `<!-- only: NAME -->` stays if one of the names is a task of the clone. A mark on a
    line of its own begins a block, which `# end only` or `<!-- end only -->` ends. `# clone: ` at the beginning of a
    line is removed.
    """
    lines, is_kept_block = [], True
    for line in text.split("\n"):
        mark = BEGIN.search(line)
        is_kept = mark is None or not {*re.findall(r"\w+", mark[1])}.isdisjoint(tasks)
        if END.fullmatch(line):
            is_kept_block = True
        elif mark and not line[: mark.start()].strip():
            is_kept_block = is_kept
        elif is_kept_block and is_kept:
            lines.append((line[: mark.start()] if mark else line).removeprefix("# clone: "))
    return "\n".join(lines)


def rename_package(text: str, old: str, new: str) -> str:
    """Rename a package in a text.

    The name is kept where it is an English word, or a table such as [project] in pyproject.toml.
    """
    pattern = rf"""
        (?<![\w.\-]) (?<!^\[) {old} (?= \\* \. [\w*({{\\[] )    # project.load, and project\.(\w+) in expressions
      | (?: (?<= src/ ) | (?<= tests/ ) ) {old} \b
      | (?<= ["'`] ) {old} (?= ["'`\[] )                       # "project", "project[zoo]"
      | (?<= \bimport\  ) {old} \b
      | (?<= \bfrom\  ) {old} (?= \ import\b )
      | {old} (?= \ ->\  ) | (?<= ->\  ) {old} \b              # import-linter's arrows
    """
    return re.sub(pattern, new, text, flags=re.VERBOSE | re.MULTILINE)


def _format(folder: Path) -> None:
    """Format the code with ruff if it is installed, since the new package name changes the lengths of lines."""
    for words in (["check", "--select", "I", "--fix"], ["format"]):
        command = [sys.executable, "-m", "ruff", *words, "--quiet", "--no-cache", "."]
        subprocess.run(command, cwd=folder, capture_output=True)
