"""The task of docs/new_task.md works in a copy of the template, and changes no other file."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import project
from kit.cloning.template import Template

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/new_task.md").read_text()
FILES = dict(re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
IDENTITY = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]
COMMANDS = re.findall(r"^\.venv/bin/python (-m project\.\w+ .*)$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The template's files, and those of the page."""
    folder = tmp_path_factory.mktemp("new_task") / "template"
    for file in Template(ROOT).files():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, folder / file)
    for file, text in FILES.items():
        assert not (folder / file).exists(), "an existing file would be changed"
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    return folder


def run(folder: Path, *words: str) -> str:
    environment = {
        "PYTHONPATH": str(folder / "src"),
        "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
        "HOME": str(folder),
    }
    ended = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_page_states_its_length():
    lines = sum(len(text.splitlines()) for text in FILES.values())
    assert len(FILES) >= 6 and lines <= 110
    assert f"a complete task of {lines} lines" in " ".join(PAGE.split())


def test_style_of_the_page(copy):
    tools = Path(sys.executable).parent
    for words in (["check"], ["format", "--check"]):
        command = [tools / "ruff", *words, "--no-cache", *(file for file in FILES if file.endswith(".py"))]
        ended = subprocess.run(command, cwd=copy, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout


@pytest.mark.slow
def test_tests_of_the_page_and_of_all_tasks_pass(copy):
    task = next(file.split("/")[2] for file in FILES if file.endswith("/task.py"))
    words = [f"tests/project/{task}", f"tests/project/test_configs.py::test_config_runs_a_step[{task}]"]
    house = ["test_house.py::test_no_slice_imports_another", "test_readme.py::test_readme_lists_all_rooms"]
    words += [f"tests/end_to_end/{test}" for test in house]
    said = run(copy, "-m", "pytest", "-p", "no:cacheprovider", *words)
    assert " passed" in said and "skipped" not in said
    tool = Path(sys.executable).with_name("lint-imports")
    environment = {"PYTHONPATH": "src", "PATH": "/usr/bin:/bin"}
    ended = subprocess.run([tool, "--no-cache"], cwd=copy, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.slow
def test_commands_of_the_page_work(copy, command, monkeypatch):
    """In this process, as one more folder of it. The training is cut short; its own test shows that it learns."""
    assert [line.split()[1] for line in COMMANDS] == ["project.check", "project.fit", "project.test"]
    monkeypatch.chdir(copy)
    monkeypatch.setattr(project, "__path__", [*project.__path__, str(copy / "src/project")])
    try:
        for line in COMMANDS:
            short = ["--trainer.max_epochs", "1"] if ".fit" in line else []
            _, verb, *words = line.split("  #")[0].split()
            ended = command(verb.removeprefix("project."), *words, *short)
            assert ended.returncode == 0, ended.stderr
    finally:
        for name in [name for name in sys.modules if name.startswith("project.keypoints")]:
            del sys.modules[name]
    results = json.loads(next((copy / "runs").glob("*/version_0/results.json")).read_text())
    assert 0 < results["test/distance"] < 20


@pytest.mark.slow
def test_new_task_can_be_cloned(copy, tmp_path):
    for words in (["init", "--quiet"], ["add", "--all", "--force"], [*IDENTITY, "commit", "--quiet", "-m", "First"]):
        subprocess.run(["git", *words], cwd=copy, check=True)
    run(copy, "-m", "project.new", str(tmp_path / "my_points"), "--task", "keypoints")
    assert (tmp_path / "my_points/src/my_points/keypoints/task.py").is_file()
    assert not (tmp_path / "my_points/src/my_points/classification").exists()
