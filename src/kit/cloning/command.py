"""`python -m project.new`: its words, its questions, its answers."""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from kit.cloning.making import make, refuse_bad_place
from kit.cloning.names import reason_against
from kit.cloning.template import Template
from kit.cloning.updating import update
from kit.ground.errors import UserError, nearest

USAGE = """\
python -m project.new DIR --task TASK[,TASK ...] [--name NAME]
       python -m project.new DIR --update"""


class Words(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; usage: {USAGE.splitlines()[0]}")


def main() -> NoReturn:
    """Runs the command line; a user's mistake ends in one line and exit code 2."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that what is half made is removed
    try:
        new(sys.argv[1:])
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, EOFError):  # the second is Ctrl-D at a question
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # such as `| head`, which has seen enough; all is made by then
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def new(args: list[str]) -> None:
    """Makes a clone of the template, or brings the template's later fixes to one.

    Raises:
        UserError: what is asked for cannot be.
    """
    template = Template.here()
    parser = Words(prog="project.new", usage=USAGE, allow_abbrev=False, description="A project of its own.")
    parser.add_argument("folder", metavar="DIR", type=Path, help="where it goes: a new folder, or an empty one")
    parser.add_argument("--name", help="of its package; by default the folder's")
    parser.add_argument(
        "--task",
        action="append",
        default=[],
        metavar="TASK",
        help=f"what it is for, one or several: {', '.join(template.tasks)}",
    )
    parser.add_argument("--update", action="store_true", help="bring the template's changes since then to a clone")
    given = parser.parse_args(args)
    folder = given.folder.expanduser().absolute()
    if given.update:
        if given.name or given.task:
            raise UserError("--update takes name and tasks from the clone: leave --name and --task out")
        print(update(template, folder))
        return
    refuse_bad_place(template, folder)
    asked = sys.stdin.isatty() and sys.stdout.isatty()
    tasks = _tasks(given.task, template.tasks, asked)
    name = _name(given.name, folder.name, template, asked)
    version = make(template, folder, name, tasks)
    print(f"{given.folder}: {name}, for {' and '.join(tasks)}, made from the template {version}")
    if version.commit and version.changed:
        print("the template has changes that are not committed: they are in it, but an update will take them for yours")
    print(f"next: cd {given.folder} && make fit")


def _tasks(given: list[str], known: list[str], asked: bool) -> list[str]:
    """
    Args:
        given: each a task, or several with commas between.
        asked: a terminal is there, to be asked if there are none.
    """
    if not given and asked:
        given = [input(f"task ({', '.join(known)}): ")]
    tasks = ",".join(given).replace(",", " ").split()
    if not tasks:
        raise UserError(f"which task? --task TASK, or several with commas between; there are {', '.join(known)}")
    for task in tasks:
        if task not in known:
            raise UserError(f"no task '{task}'{nearest(task, known)}; there are {', '.join(known)}")
    return sorted(set(tasks))


def _name(given: str | None, default: str, template: Template, asked: bool) -> str:
    """
    Args:
        default: if none is given; a terminal is asked for another if that will not do.
    """
    folders = {file.split("/")[0] for file in template.files() if "/" in file}
    name = default if given is None else given
    reason = reason_against(name, template.tasks, folders)
    if reason and given is None and asked:
        name = input(f"name of the package, since '{default}' will not do ({reason}): ").strip()
        reason = reason_against(name, template.tasks, folders)
    if reason:
        raise UserError(f"--name {name}: {reason}; choose another, such as --name my_cells")
    return name
