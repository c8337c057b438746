"""A clone of the template: all of it, or nothing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from kit.cloning import git
from kit.cloning.names import OLD, renamed
from kit.cloning.readme import readme
from kit.cloning.selection import Selection
from kit.cloning.template import Template, Version
from kit.ground.errors import UserError

BY_LINES = re.compile(r"Makefile|pyproject\.toml|\.ci/|configs/")  # without the lines that name what a clone lacks
LIBRARY = ("src/kit/", "tests/kit/")  # it does not name the package, and stays as it is, byte by byte
URL = "TEMPLATE_URL"  # stands for it until the package is renamed, which is not meant by what the address says
START = """\
# {name}

{tasks} with PyTorch Lightning: your images in, a trained model and an honest report out.
This project was made from a template; which version of it, and how, stands in `pyproject.toml` under `[tool.template]`.
The template's own README{where} says how its later fixes come here.
"""
PROVENANCE = """\
[tool.template]
# Where this project came from: the template needs it to bring its later fixes.
{url}name = "{name}"
tasks = [{tasks}]
version = "{version.number}"
commit = "{version.commit}"

"""


def make(template: Template, folder: Path, name: str, tasks: list[str]) -> Version:
    """Writes the clone beside `folder`, or in it if it is there, then moves it to its place.

    Args:
        folder: not there, or empty.

    Raises:
        UserError: there is something in it, or it cannot be written.
    """
    refuse_bad_place(template, folder)
    try:
        there = folder.exists()
        part = folder / f".part{os.getpid()}" if there else folder.with_name(f".{folder.name}.part{os.getpid()}")
        try:
            version = write(template, part, name, tasks)
            _begin_history(part, f"Begin from the template {version}: {', '.join(tasks)}")
            if there:
                _move_out(part)
            else:
                part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error})") from None
    return version


def refuse_bad_place(template: Template, folder: Path) -> None:
    """
    Raises:
        UserError: no clone can be made there.
    """
    if not folder.parent.is_dir():
        raise UserError(f"there is no folder {folder.parent} to make it in; choose a folder in one that is there")
    if folder.resolve().is_relative_to(template.root.resolve()):
        raise UserError(f"{folder} lies in the template's own folder; choose a folder outside")
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise UserError(f"{folder} is there already, and not empty; choose a folder that is new")


def _move_out(part: Path) -> None:
    """Into the folder that it is in, which stays the same one: a shell may be there. All of it, or nothing."""
    if [*part.parent.iterdir()] != [part]:
        raise UserError(f"{part.parent} is not empty any more; choose a folder that is new")
    moved = []
    try:
        for child in list(part.iterdir()):
            moved.append(child)
            child.rename(part.parent / child.name)
    except BaseException:
        for child in moved:
            if not child.exists():
                (part.parent / child.name).rename(child)
        raise


def write(template: Template, folder: Path, name: str, tasks: list[str]) -> Version:
    """The clone's files, without a history."""
    version = template.version()
    for file, text in _contents(template, name, tasks, version).items():
        target = folder / (file if file.startswith(LIBRARY) else renamed(file, name))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(template.root / file, target)  # its mode, too
        if text is not None:
            own = text if file.startswith(LIBRARY) else renamed(text, name).replace(URL, version.url)
            target.write_text(own, encoding="utf-8")
    _format(folder)
    _allow_longer_lines(folder, name)
    return version


def _contents(template: Template, name: str, tasks: list[str], version: Version) -> dict[str, str | None]:
    """What becomes of each file, before the package is renamed; None where it is no text, and stays as it is."""
    texts = {file: _text(template.root / file) for file in template.files()}
    selection = Selection(template.tasks, tasks, texts)
    kept = {file: text for file, text in texts.items() if not selection.leaves_out(file, text or "")}
    missing = {file for file in texts if file not in kept and file.startswith(("benchmarks/", "notebooks/"))}
    for file in filter(BY_LINES.match, kept):
        kept[file] = _lines(kept[file] or "", selection, missing, bool(selection.of_a_task.match(file)))
    kept["pyproject.toml"] = _described(kept["pyproject.toml"] or "", name, selection.tasks, version)
    where = f" ({URL})" if version.url else ""
    start = START.format(name=name, tasks=" and ".join(selection.tasks).capitalize(), where=where)
    kept["README.md"] = told = readme(kept["README.md"] or "", start, selection, missing)
    return {file: text for file, text in kept.items() if not file.startswith("docs/") or file in told}


def _text(file: Path) -> str | None:
    """None of what is no text."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def _lines(text: str, selection: Selection, missing: set[str], its_own: bool) -> str:
    """Without the lines that name what is missing, and without targets of a Makefile that do nothing then.

    Args:
        its_own: it is a task's own config: a command for another task's would not do with this one's.
    """
    text = re.sub(r"\n(?=# +--)", "\0", text)  # a comment that begins with an option goes on with the command before
    paragraphs = []
    for paragraph in text.split("\n\n"):
        lines = [line if its_own else selection.retold(line) for line in paragraph.split("\n")]
        kept = [line for line in lines if not selection.lacks(line) and not any(file in line for file in missing)]
        if len(kept) < len(lines) and (not kept or (len(kept) == 1 and re.match(r"[\w-]+:", kept[0]))):
            continue
        paragraphs.append("\n".join(kept))
    return "\n\n".join(paragraphs).replace("\0", "\n")


def _described(pyproject: str, name: str, tasks: list[str], version: Version) -> str:
    about = f"{' and '.join(tasks).capitalize()} with PyTorch Lightning"
    pyproject = re.sub(r'^description = ".*"$', f'description = "{about}"', pyproject, count=1, flags=re.MULTILINE)
    quoted = ", ".join(f'"{task}"' for task in tasks)
    url = f'url = "{URL}"\n' if version.url else ""
    table = PROVENANCE.format(url=url, name=name, tasks=quoted, version=version)
    return re.sub(r"^(?=\[tool\.)", lambda _: table, pyproject, count=1, flags=re.MULTILINE)


def _format(folder: Path) -> None:
    """Another name makes other lines too long, or short enough: ruff breaks them anew, where it is installed."""
    ruff = shutil.which("ruff", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if ruff is None:
        return
    for words in (["check", "--select", "I", "--fix"], ["format"]):
        subprocess.run([ruff, *words, "--quiet", "--no-cache", "."], cwd=folder, check=False, capture_output=True)


def _allow_longer_lines(folder: Path, name: str) -> None:
    """A longer name makes comments longer, too, which no tool breaks: they are no fault then."""
    pyproject = folder / "pyproject.toml"
    text = pyproject.read_text()
    select = re.search(r"^select = .*\n", text[text.index("[tool.ruff.lint]") :], re.MULTILINE)
    if len(name) > len(OLD) and select:
        ignore = 'ignore = ["E501"]  # comments that name this package; other lines are broken by `ruff format`\n'
        pyproject.write_text(text.replace(select[0], select[0] + ignore))


def _begin_history(folder: Path, message: str) -> None:
    if shutil.which("git") is None:
        return
    git.run(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, message)


def commit(folder: Path, message: str) -> None:
    """All that there is."""
    git.run(folder, "add", "--all", "--force")
    words = ["-c", "commit.gpgsign=false", "commit", "--quiet", "--no-verify", "-m", message]
    git.run(folder, *words, **git.author(folder))
