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

NAME_RULE = "begin with a lower-case letter, then use such letters, digits and _; no keyword, module or template folder"


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
    choices = f"one or several, separated by commas, of: {', '.join(template.tasks)}"
    parser.add_argument("--task", action="append", default=[], metavar="TASK", help=choices)
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
    tasks = sorted({*",".join(options.task).replace(",", " ").split()})
    if not tasks:
        raise UserError(f"which task? Give --task with {choices}")
    if unknown := [task for task in tasks if task not in template.tasks]:
        raise UserError(f"no task '{unknown[0]}'{did_you_mean(unknown[0], template.tasks)}; give {choices}")
    name = folder.name if options.name is None else options.name
    if not is_free(name, template):
        raise UserError(f"--name {name}: {NAME_RULE}; choose another, such as my_cells")
    version = make(template, folder, name, tasks)
    print(f"{options.folder}: {name}, for {' and '.join(tasks)}, made from the template {version}")
    if untracked_paths:
        print(f"left out, since git does not track them: {', '.join(untracked_paths)}")
    # `cd` is needed even if this is the current folder: the shell is still in the empty one that `make` has replaced.
    print(f"next: cd {folder} && make fit")


def is_free(name: str, template: Template) -> bool:
    """Return whether a clone's package can have this name."""
    folders = {file.split("/")[0] for file in template.files()}  # Python would find these before the clone's package
    taken = {template.package, "kit", *template.tasks, *folders, *keyword.kwlist}
    if name in taken or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        return False
    spec = find_spec(name)
    return spec is None or spec.origin is None  # a folder without __init__.py has no origin
