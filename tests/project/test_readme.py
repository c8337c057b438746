"""What the README tells people to type is understood, and what it names is there."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from kit.cli import verbs
from kit.ground.errors import UserError
from kit.ground.faults import KINDS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PYTHON = r"(?:\.venv/bin/)?python|(?:\.venv/bin/)?torchrun [^\n]*?"
COMMANDS = re.findall(rf"^\$? ?(?:{PYTHON}) -m (project\.fit[^#\n]*)", README.replace("\\\n", ""), re.MULTILINE)


def arguments(command: str) -> list[str]:
    """Of a command that trains; without `--resume`, since there is no run."""
    words = shlex.split(command)[1:]
    if "--resume" in words:
        place = words.index("--resume")
        del words[place : place + 2]
    return words


def of_a_slice_that_is_gone(text: str) -> bool:
    """A clone keeps the tasks that it needs; the README may still tell of the others."""
    named = re.findall(r"project\.(\w+)\.\w", text) + re.findall(r"configs/([a-z]+)[\w]*\.yaml", text)
    return any(not (ROOT / "src/project" / name).exists() for name in named)


@pytest.fixture(autouse=True)
def at_the_root(own_folder, monkeypatch):
    monkeypatch.chdir(ROOT)


def test_there_are_commands():
    assert len(COMMANDS) > 5


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_understood(command, capsys):
    answer = re.search(rf"^\$ .*{re.escape(command.strip())}\n(error: .*)", README, re.MULTILINE)
    if of_a_slice_that_is_gone(command + (answer[1] if answer else "")):
        pytest.skip("a task that is not here")
    try:
        verbs.fit([*arguments(command), "--print_config"])
    except SystemExit as ended:
        assert ended.code == 0
        assert {"trainer", "model", "data"} <= set(yaml.safe_load(capsys.readouterr().out))
    except UserError as error:
        assert answer and f"error: {error}" == answer[1]


def test_what_it_names_is_there():
    for module in set(re.findall(r"-m project\.([a-z]+(?:\.[a-z]+)?)", README)):
        file = ROOT / "src/project" / f"{module.replace('.', '/')}.py"
        assert file.is_file() or of_a_slice_that_is_gone(f"project.{module}"), module
    for config in set(re.findall(r"\bconfigs/[\w/]+\.yaml", README)):
        assert (ROOT / config).is_file() or of_a_slice_that_is_gone(config), config
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / picture).is_file(), picture
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"^make (\w+)", README, re.MULTILINE)) <= set(targets)


def test_the_house_has_all_rooms():
    """But for tasks: one that is added changes no other file."""
    tree = README.split("## The house", 1)[1].split("```", 2)[1]
    for place in [*(ROOT / "src/project").iterdir(), *(ROOT / "src/kit").iterdir()]:
        room = place.name != "__init__.py" and (place.suffix == ".py" or (place / "__init__.py").is_file())
        if room and not (place / "task.py").is_file():
            assert re.search(rf"(?<![\w]){re.escape(place.name)}", tree), place.name


def test_every_fault_that_check_finds_is_listed():
    listed = set(re.findall(r"`([\w-]+)`", "\n".join(re.findall(r"^\| (?:error|warning) .*$", README, re.MULTILINE))))
    assert set(KINDS) <= listed


def test_paragraphs_are_wrapped():
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    assert not [line for line in prose.splitlines() if len(line) > 160 and not line.startswith(("|", "!"))]
