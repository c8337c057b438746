"""The command line of `python -m PACKAGE.new`."""

import argparse
import keyword
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from kit.cloning.making import make
from kit.cloning.template import Template
from kit.cloning.updating import update
from kit.ground import app
from kit.ground.errors import UserError, did_you_mean


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; usage: {app.command('new')} FOLDER --task TASK[,TASK ...] [--name NAME]")


def new(args: list[str]) -> None:
    """Make a clone of the template, or update one.

    Raises:
        UserError: the command line has a mistake, or the clone cannot be made or updated.
    """
    if shutil.which("git") is None:
        raise UserError("git is not installed; install it first")
    template = Template.here()
    parser = _Parser(prog=app.command("new"), allow_abbrev=False, description="Make a project of your own.")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="the folder of the project, new or empty")
    parser.add_argument("--name", help="the name of its package; by default the folder's name")
    tasks_help = f"its tasks, one or several of: {', '.join(template.tasks)}"
    parser.add_argument("--task", action="append", default=[], metavar="TASK", help=tasks_help)
    parser.add_argument("--update", action="store_true", help="merge later changes of the template into a clone")
    options = parser.parse_args(args)
    folder = options.folder.expanduser().absolute()
    if options.update:
        if options.name or options.task:
            raise UserError("--update takes name and tasks from the clone: leave out --name and --task")
        print(update(template, folder))
        return
    untracked_paths = template.untracked_paths()
    if paths := ", ".join(path for path in untracked_paths if "/" in path[:-1]):  # in the template's own folders
        raise UserError(f"git does not track {paths}, which the project would lack: git add it, or move it away")
    tasks = _split_tasks(options.task, template)
    name = folder.name if options.name is None else options.name
    if reason := reason_against(name, template):
        raise UserError(f"--name {name}: {reason}; choose another, such as --name my_cells")
    version = make(template, folder, name, tasks)
    print(f"{options.folder}: {name}, for {' and '.join(tasks)}, made from the template {version}")
    if untracked_paths:
        print(f"left out, since git does not track them: {', '.join(untracked_paths)}")
    # `cd` is needed even if this is the current folder: the shell is still in the empty one that `make` has replaced.
    print(f"next: cd {folder} && make fit")


def _split_tasks(values: list[str], template: Template) -> list[str]:
    """Return the chosen tasks, sorted.

    Args:
        values: the values of `--task`. Each is the name of a task, or several names separated by commas.
        template: the template that has the tasks.

    Raises:
        UserError: no task is given, or a task is not known.
    """
    choices = f"there are {', '.join(template.tasks)}"
    tasks = sorted({*",".join(values).replace(",", " ").split()})
    if not tasks:
        raise UserError(f"which task? --task TASK, or several separated by commas; {choices}")
    if unknown := [task for task in tasks if task not in template.tasks]:
        raise UserError(f"no task '{unknown[0]}'{did_you_mean(unknown[0], template.tasks)}; {choices}")
    return tasks


def reason_against(name: str, template: Template) -> str | None:
    """Return the reason why a clone's package cannot have this name, or None if it can."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        return "a package's name has lower-case letters, digits and underscores, and begins with a letter"
    folders = {file.split("/")[0] for file in template.files()}  # Python would find these before the clone's package
    if name in {template.package, "kit", *template.tasks, *folders}:
        return "it is the name of the template or of one of its folders"
    spec = find_spec(name)
    if keyword.iskeyword(name) or (spec and spec.origin):  # a folder without __init__.py has no origin
        return "Python has a keyword of that name, or a module of that name is installed here"
    return None
