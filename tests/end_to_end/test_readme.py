"""README, AGENTS and the docs pages: their commands are understood, what they name exists, and their recipes run."""

import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import project
from kit.cli import verbs
from kit.ground.errors import UserError
from kit.ground.faults import KINDS

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ("configs/schema.json",)  # by `make schema`
NAME = project.__name__
OF_ITS_OWN: tuple[str, ...] = ()
OF_ITS_OWN += ("new_task.md",)  # only: template
FILES = [ROOT / "README.md", ROOT / "AGENTS.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = {str(file.relative_to(ROOT)): file.read_text() for file in FILES if file.name not in OF_ITS_OWN}
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
PYTHON = r"(?:\.venv/bin/)?python|(?:\.venv/bin/)?torchrun [^\n]*?"
COMMAND = re.compile(rf"(?:^\$? ?|^    |^\| [^\n]*`)(?:{PYTHON}) -m (project\.fit[^#\n`|]*)", re.MULTILINE)
CODE = re.compile(r"^`(my_\w+\.py)`:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINES = r"(?:(?!^```$).*\n)*"
SHELL = re.compile(rf"^```\n((?:(?!^```$).*\n)*? *\.venv/bin/python -m project\.fit {LINES})^```$", re.MULTILINE)
SHORT = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"]
SHORT += ["--trainer.limit_test_batches=1", "--overfitting.enabled=false", "--dashboard.enabled=false"]

pages = pytest.mark.parametrize("page", PAGES)


def example(text: str) -> str:
    """Put the first task that has such a config in the place of TASK."""

    def there(found: re.Match[str]) -> str:
        configs = sorted((ROOT / "configs").glob(found[0][8:].replace("TASK", "*")))
        return f"configs/{configs[0].name}" if configs else found[0]

    return re.sub(r"\bconfigs/TASK\w*\.yaml", there, text)


def commands(text: str) -> list[str]:
    found = COMMAND.findall(text.replace("\\\n", ""))
    return [example(command).strip() for command in found if "$" not in command]


def arguments(command: str) -> list[str]:
    """Of a command that trains; without `--resume`, since there is no run."""
    words = shlex.split(command)[1:]
    if "--resume" in words:
        place = words.index("--resume")
        del words[place : place + 2]
    return words


def of_a_task_that_is_gone(text: str) -> bool:
    """The owner may have deleted a task whose page, or whose row in the README, is still there."""
    paths = rf"(?<![\w.]){NAME}\.(\w+)\.\w|(?:src|tests)/{NAME}/([a-z]+)(?:/|$)"
    paths += r"|configs/([a-zA-Z]+)[\w*]*\.yaml|notebooks/(?!basics)([a-z]+)"
    named = {name for names in re.findall(paths, text) for name in names if name}
    return any(not (ROOT / "src/project" / name).exists() for name in named)


def own_classes(folder: Path) -> None:
    """Write the code of all recipes into a folder."""
    for text in PAGES.values():
        for name, code in CODE.findall(text):
            (folder / name).write_text(code)


@pytest.fixture(autouse=True)
def at_the_root(own_folder, monkeypatch):
    monkeypatch.chdir(ROOT)


EACH = sorted({(page, command) for page, text in PAGES.items() for command in commands(text)})


def test_pages_have_commands():
    assert len(EACH) > 10


@pytest.mark.parametrize(("page", "command"), EACH, ids=[command[:60] for _, command in EACH])
def test_command_is_parsed(page, command, capsys, monkeypatch, tmp_path):
    answer = re.search(rf"^\$ .*{re.escape(command)}\n(error: .*)", PAGES[page], re.MULTILINE)
    if of_a_task_that_is_gone(command):
        pytest.skip("a task that is not here")
    own_classes(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        verbs.fit([*arguments(command), "--print_config"])
    except SystemExit as ended:
        assert ended.code == 0
        assert {"trainer", "model", "data"} <= set(yaml.safe_load(capsys.readouterr().out))
    except UserError as error:
        assert answer and f"error: {error}" == answer[1]


RECIPES = [
    (page, block)
    for page, text in PAGES.items()
    for block in SHELL.findall(text)
    if page == "docs/changes.md" or "\ndone" in block or any(name[:-3] in block for name, _ in CODE.findall(text))
]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "block"), RECIPES, ids=[f"{page}: {block[:60]}" for page, block in RECIPES])
def test_recipe_runs(page, block, tmp_path, monkeypatch, image_folder):
    """The shell runs it with a Python that notes what it is told, and this process trains as it was told."""
    if of_a_task_that_is_gone(block):
        pytest.skip("a task that is not here")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    own_classes(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    images = sorted(image_folder({"": {"cat": 10, "dog": 10}}).rglob("*.png"))
    rows = [f"{path.relative_to(tmp_path / 'photos')},{path.parent.name}" for path in images]
    (tmp_path / "photos/labels.csv").write_text("\n".join(["path,label", *rows, ""]))
    noting = tmp_path / ".venv/bin/python"
    noting.parent.mkdir(parents=True)
    noting.write_text('#!/bin/sh\nprintf "%s\\n" "$@" END >> told\nmkdir -p runs/fold_0/version_0\n'
                      'echo val/accuracy > runs/fold_0/version_0/results.json\n')  # fmt: skip
    noting.chmod(0o755)
    subprocess.run(["bash", "-euc", block], check=True, cwd=tmp_path)
    told = [words.split("\n") for words in (tmp_path / "told").read_text().split("\nEND\n")[:-1]]
    assert told and all(words[:2] == ["-m", "project.fit"] for words in told)
    for words in told:
        verbs.fit([*words[2:], *SHORT])
    assert len([*tmp_path.glob("runs/*/version_*/config.yaml")]) == len(told)


@pages
def test_named_files_exist(page):
    text = re.sub(r"^`my_\w+\.py`:\n\n```.*?^```$", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    for package, module in set(re.findall(r"-m (project|kit)\.([a-z]+(?:\.[a-z]+)*)", text)):
        file = ROOT / "src" / package / f"{module.replace('.', '/')}.py"
        assert file.is_file() or of_a_task_that_is_gone(f"{package}.{module}"), module
    for path in set(re.findall(r"(?<![\w/.])(?:src|configs|notebooks|benchmarks|tests|docs)/[\w/.*]*[\w*]", text)):
        placeholder = re.search(r"TASK|NAME|CONFIG", path)
        assert placeholder or path in GENERATED or of_a_task_that_is_gone(path) or any(ROOT.glob(path)), path
    for name in set(re.findall(r"(?<![\w./])(?:kit|project)(?:\.[a-z_]+)+\.[A-Z]\w+", text)):
        module, _, found = name.rpartition(".")
        assert of_a_task_that_is_gone(name) or hasattr(import_module(module), found), name
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:^|`)make ([\w-]+)", text, re.MULTILINE)) <= set(targets)


@pages
def test_links_and_pictures_exist(page):
    for link in re.findall(r"\]\(([^)#]+)", PAGES[page]):
        if not link.startswith("https://"):
            target = ((ROOT / page).parent / link).resolve()
            assert target.is_file(), link


@pages
def test_programs_are_valid_python(page):
    for program in re.findall(r"^```python\n(.*?)^```$", PAGES[page], re.MULTILINE | re.DOTALL):
        compile(program, page, "exec")


@pages
def test_pages_are_short_and_wrapped(page):
    prose = FENCE.sub("", PAGES[page])
    assert not [line for line in prose.splitlines() if len(line) > 160 and not line.startswith(("|", "!"))]
    lines = len(PAGES[page].splitlines())
    assert lines <= (180 if page == "README.md" else 150)
    assert len(PAGES[page].split()) <= 1500


# only: template
def test_readme_lists_all_rooms():
    """But for tasks: one that is added changes no other file."""
    tree = PAGES["README.md"].split("## The house", 1)[1].split("```", 2)[1]
    for place in [*(ROOT / "src/project").iterdir(), *(ROOT / "src/kit").iterdir()]:
        room = place.name != "__init__.py" and (place.suffix == ".py" or (place / "__init__.py").is_file())
        if room and not (place / "task.py").is_file():
            assert re.search(rf"(?<![\w]){re.escape(place.name)}", tree), place.name


# end only
def test_every_fault_of_check_is_listed():
    rows = re.findall(r"^\| (?:error|warning).*$", PAGES["docs/check.md"], re.MULTILINE)
    assert set(KINDS) <= set(re.findall(r"`([\w-]+)`", "\n".join(rows)))
