"""`python -m project.new` as it is called: what a clone has, what it has not, and what is refused."""

import io
import re
import shutil
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import nbformat
import pytest
import yaml

from kit.cloning import command, making
from kit.cloning.making import LIBRARY
from kit.cloning.names import reason_against, renamed
from kit.cloning.selection import Selection
from kit.cloning.template import Template, address
from kit.ground.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = Template(ROOT)
TASKS = TEMPLATE.tasks
CHOICES = [[task] for task in TASKS] + [list(pair) for pair in list(combinations(TASKS, 2))[:1]]
LONG, SHORT = "cells_under_a_microscope", "ab"  # longer and shorter than the template's own name: lines break anew
NAMES = ["my_cells", LONG, SHORT]


def run(*words: str | Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)


def new(*words: str | Path) -> subprocess.CompletedProcess:
    return run(sys.executable, "-m", "project.new", *words, stdin=subprocess.DEVNULL)


def choice(tasks: list[str]):
    """As a parameter: the last one, a pair if there is one, is quick."""
    marks = () if tasks == CHOICES[-1] else pytest.mark.slow
    return pytest.param(tasks, marks=marks, id="+".join(tasks))


@pytest.fixture(scope="module", params=map(choice, CHOICES))
def clone(request, tmp_path_factory) -> tuple[Path, list[str]]:
    """A folder with a clone, and its tasks."""
    name = NAMES[CHOICES.index(request.param) % len(NAMES)]
    folder = tmp_path_factory.mktemp("clones") / name
    ended = new(folder, *(word for task in request.param for word in ("--task", task)))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"{name}, for {' and '.join(request.param)}" in ended.stdout
    assert [path.name for path in folder.parent.iterdir()] == [name]
    return folder, request.param


def texts(folder: Path) -> dict[str, str]:
    """The text files of a clone, without the library, which is the template's."""
    files = run("git", "ls-files", cwd=folder).stdout.splitlines()
    own = [file for file in files if not file.startswith(LIBRARY) and not file.endswith((".png", ".jpg"))]
    return {file: (folder / file).read_text() for file in own}


def words_of_code(code: str) -> set[str]:
    """The names that Python reads, in comments and texts not."""
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


def test_nothing_of_the_old_name_is_left(clone):
    folder, _ = clone
    meant = re.compile(
        r"""(?<![\w.-])project\\*\.[\w{(]|(?:import|from) project\b|-m project|src/project|["'`/]project["'`/\[]"""
    )
    for file, text in texts(folder).items():
        assert "project" not in Path(file).parts
        lines = [line for line in text.splitlines() if meant.search(line) and not line.startswith("[project.")]
        assert not lines, (file, lines)
        if file.endswith(".py"):
            assert "project" not in words_of_code(text), file
        if file.endswith(".ipynb"):
            code = [cell.source for cell in nbformat.reads(text, 4).cells if cell.cell_type == "code"]
            assert not [cell for cell in code if re.search(r"\bproject\b", cell)], file


def test_the_library_is_the_same_byte_by_byte(clone):
    folder, _ = clone
    library = [file for file in TEMPLATE.files() if file.startswith(LIBRARY)]
    assert len(library) > 100
    assert all((folder / file).read_bytes() == (ROOT / file).read_bytes() for file in library)


def test_nothing_of_other_tasks_is_left(clone):
    folder, tasks = clone
    gone = "|".join([*(task for task in TASKS if task not in tasks), "cloning"])
    named = re.compile(
        rf"(?<![\w.])(?:project|{folder.name})\.(?:{gone}|new)\b|\b(?:configs|notebooks|tests|runs|{folder.name})/(?:{gone})\b"
        rf"|(?:{gone})\w*\.(?:yaml|ipynb)|test-clones|new_task"
    )
    for file, text in texts(folder).items():
        assert not re.search(rf"\b(?:{gone})\b", file), file
        lines = [line for line in text.splitlines() if named.search(line)]
        assert not lines, (file, lines)


def test_all_of_its_own_tasks_is_there(clone):
    folder, tasks = clone
    there = set(run("git", "ls-files", cwd=folder).stdout.splitlines())
    for task in tasks:
        own = [file for file in TEMPLATE.files() if f"/{task}/" in file or re.match(rf"configs/{task}[_.]", file)]
        assert len(own) > 10 and {renamed(file, folder.name) for file in own} <= there
        assert f"notebooks/{task}.ipynb" in there or not (ROOT / f"notebooks/{task}.ipynb").exists()
        assert re.search(rf"^## {task}: ", (folder / "README.md").read_text(), re.IGNORECASE | re.MULTILINE)
    assert (folder / ".ci/run").stat().st_mode & 0o100


def test_it_has_a_readme_of_its_own_without_gaps(clone):
    folder, tasks = clone
    text = (folder / "README.md").read_text()
    assert text.startswith(f"# {folder.name}\n\n{' and '.join(tasks).capitalize()} ")
    assert text.count("```") % 2 == 0
    assert not re.search(r":\n\n+(?:##|\Z)", text), "something is announced that is not there"
    assert not re.search(r"^\| --- .*\n(?!\|)", text, re.MULTILINE), "a table has no rows"
    for verb in ("fit", "check", "predict", "export"):
        assert f".venv/bin/python -m {folder.name}.{verb} " in text
    template = (ROOT / "README.md").read_text()
    for heading, section in re.findall(r"^(## .*)((?:\n(?!## ).*)*)", template, re.MULTILINE):
        about = heading[3:].split(":")[0].lower()
        wanted = about in tasks or about not in [*TASKS, "cloning"]
        assert (heading in text) == wanted or (wanted and "\n| --- " in section), heading  # no row of it may be left


def test_what_a_task_says_of_itself_is_not_retold(clone):
    """Another task's config would not do with its own; a config that is not there is."""
    folder, tasks = clone
    for file in ["README.md", *(f"configs/{path.name}" for path in (folder / "configs").glob("*.yaml"))]:
        text = (folder / file).read_text()
        if file == "README.md":
            text = "\n".join(re.findall(rf"(?ims)^## (?:{'|'.join(tasks)}): .*?(?=^## )", text))
        commands = re.findall(r"-m \w+\.\w+ --config .*", text)
        template = renamed((ROOT / file).read_text(), folder.name)
        assert not [command for command in commands if command not in template], file


def test_what_is_told_to_take_images_takes_them(clone):
    """A generator takes noise, and its file has no input for images."""
    folder, tasks = clone
    told = (folder / "README.md").read_text()
    listings = r'|\.load\("runs/(\w+)/[^`]*\.predict\(|InferenceSession\("runs/(\w+)/[^`]*{"images":'
    given_images = r"\.predict runs/(\w+)/\S+ (?!--)" + listings
    runs = ["".join(found) for found in re.findall(given_images, told)]
    assert len(runs) >= 3
    for run in runs:
        model = yaml.safe_load((folder / f"configs/{run}.yaml").read_text())["model"]["class_path"]
        assert model.split(".")[1] in tasks and not model.endswith(".Generator"), run
    if tasks == ["generation"]:
        assert set(runs) == {"generation_style"}


def test_a_run_on_images_is_of_a_task_that_takes_them():
    for chosen, run in [
        (["generation"], "generation_style"),
        (["generation", "segmentation"], "segmentation"),
        (["detection", "generation"], "detection"),
    ]:
        assert Selection(["detection", "generation", "segmentation"], chosen, {}).on_images == run


def test_how_long_the_templates_own_data_take_is_not_said_of_others(clone):
    folder, _ = clone
    assert "tests: a minute or so\n" in (ROOT / "README.md").read_text()
    assert re.search(r"^make fit +#.* and tests$", (folder / "README.md").read_text(), re.MULTILINE)


def test_a_configs_comments_are_the_templates_line_by_line(clone):
    """A command that goes on in a second line is there in both, or in none."""
    folder, tasks = clone

    def comments(text: str) -> set[str]:
        return {line for line in re.sub(r"\n# +(?=--)", " ", text).splitlines() if line.startswith("#")}

    for config in (folder / "configs").glob("*.yaml"):
        template = renamed((ROOT / "configs" / config.name).read_text(), folder.name)
        assert comments(config.read_text()) <= comments(template), config.name
    if tasks == ["generation"]:
        style = (folder / "configs/generation_style.yaml").read_text()
        assert "--data.augment" not in style and "of the same template: RUN, its folder." in style
        assert "TorchvisionFeatures\n#   --model.features.pretrained true\n" in style
    assert (folder / "benchmarks/style.py").exists() == ("generation" in tasks) or "generation" not in TASKS


def test_an_address_is_one_that_others_can_reach():
    for known in ("https://example.org/a/project.git", "ssh://git@example.org/a", "git@example.org:a/b.git"):
        assert address(known) == known
    assert (
        address("https://me:secret@example.org/a") == address("https://token@example.org/a") == "https://example.org/a"
    )
    for local in ("", "/home/me/project", "../project", "file:///home/me/project", "C:\\project", "backup", 'git@a:b"'):
        assert address(local) == ""


def test_it_says_where_it_came_from(clone):
    folder, tasks = clone
    pyproject = tomllib.loads((folder / "pyproject.toml").read_text())
    assert pyproject["project"]["name"] == folder.name
    assert pyproject["tool"]["importlinter"]["root_packages"] == [folder.name, "kit"]
    origin, version = pyproject["tool"]["template"], TEMPLATE.version()
    assert origin == {
        **({"url": version.url} if version.url else {}),
        "name": folder.name,
        "tasks": tasks,
        "version": version.number,
        "commit": version.commit,
    }
    assert run("git", "status", "--porcelain", cwd=folder).stdout == ""
    assert (
        run("git", "log", "--format=%s", cwd=folder).stdout
        == f"Begin from the template {version}: {', '.join(tasks)}\n"
    )


def test_its_makefile_and_its_configs_are_whole(clone):
    folder, tasks = clone
    makefile = (folder / "Makefile").read_text()
    targets = re.findall(r"^([\w-]+):", makefile, re.MULTILINE)
    assert {"setup", "fit", "test", "lint", "dashboard", "notebooks", "clean"} <= set(targets)
    assert set(re.search(r"\.PHONY: (.*)", makefile)[1].split()) == set(targets)
    assert all((folder / file).is_file() for file in re.findall(r"\S+/\w+\.py\b", makefile))
    assert "lint" in run("make", "help", cwd=folder).stdout
    for config in (folder / "configs").glob("*.yaml"):
        assert config.stem.split("_")[0] in tasks
        content = yaml.safe_load(config.read_text())
        assert content["model"]["class_path"].startswith(f"{folder.name}.")


BAD = {
    "My_cells": "lower-case",
    "my-cells": "lower-case",
    "2cells": "lower-case",
    "_cells": "lower-case",
    "zellen_ü": "lower-case",
    "class": "Python's own",
    "project": "the template's",
    "json": "a module",
    "torch": "installed here",
    "PIL": "lower-case",
    "sklearn": "installed here",
    "tests": "its own folders",
    TASKS[0]: "its own folders",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_name_is_refused(name, tmp_path, capsys):
    with pytest.raises(UserError, match=rf"--name {name}: .*{BAD[name]}"):
        command.new([str(tmp_path / "there"), "--task", TASKS[0], "--name", name])
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_there_by_chance_are_no_matter(tmp_path, monkeypatch):
    """A folder in the working folder is no module, though Python finds it there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_cells").mkdir()
    assert reason_against("my_cells", TASKS, {"tests"}) is None


WRONG = [
    (["--task", "detectoin"], r"no task 'detectoin'; did you mean 'detection'\?; there are "),
    (["--task", f"{TASKS[0]},detectoin"], "no task 'detectoin'"),
    ([], "which task"),
    (["--task", ","], "which task"),
    (["--task"], "expected one argument; usage: "),
    (["--tasks", "detection"], "unrecognized arguments|following arguments"),
    (["--update", "--name", "x"], "leave --name and --task out"),
]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_what_is_wrong_is_said(words, said, tmp_path):
    with pytest.raises(UserError, match=said):
        command.new([str(tmp_path / "cells"), *words])
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    ended = new(tmp_path / "full", "--name", "my_cells", "--task", TASKS[0])
    assert ended.returncode == 2 and ended.stdout == ""
    assert re.fullmatch(r"error: .*/full is there already, and not empty; choose a folder that is new\n", ended.stderr)
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]


@pytest.mark.slow
def test_who_stops_reading_gets_no_traceback(tmp_path):
    """As `| head -0` does."""
    words = [sys.executable, "-m", "project.new", str(tmp_path / "my_cells"), "--task", TASKS[0]]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as made:
        made.stdout.close()
        assert made.stderr.read() == ""
    assert made.returncode == 0 and (tmp_path / "my_cells" / "pyproject.toml").is_file()


def test_where_there_is_a_file_or_no_folder_or_the_template_itself_it_is_refused(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for place in (tmp_path / "file", tmp_path / "link", tmp_path / "no" / "folder", ROOT / "my_cells"):
        with pytest.raises(UserError, match="choose a folder"):
            command.new([str(place), "--name", "my_cells", "--task", TASKS[0]])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"] and not (ROOT / "my_cells").exists()


FAILURES = [OSError(28, "No space left on device"), KeyboardInterrupt()]


@pytest.mark.parametrize(("failure", "there"), zip(FAILURES, (False, True), strict=True), ids=["new", "empty"])
def test_a_failure_half_way_leaves_nothing(failure, there, tmp_path, monkeypatch):
    place = tmp_path / "place"

    def fail(folder: Path) -> None:
        assert (folder / "pyproject.toml").is_file() and folder.parent == (place if there else tmp_path)
        raise failure

    monkeypatch.setattr(making, "_format", fail)
    if there:
        place.mkdir()
    raised = UserError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(raised):
        command.new([str(place), "--name", "my_cells", "--task", TASKS[0]])
    assert list(tmp_path.rglob("*")) == [place] * there


@pytest.mark.slow
@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_a_failure_at_the_last_step_leaves_the_folder_empty(failure, tmp_path, monkeypatch):
    rename, moved = Path.rename, []

    def fail(source: Path, target: Path) -> Path:
        moved.append(source)
        if len(moved) == 4:
            raise failure
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(UserError if isinstance(failure, OSError) else KeyboardInterrupt):
        command.new([str(tmp_path), "--name", "my_cells", "--task", TASKS[0]])
    assert len(moved) == 7 and list(tmp_path.iterdir()) == []  # three were there already, and went back


def test_what_comes_into_the_folder_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr(making, "_format", lambda _: (tmp_path / "README.md").write_text("mine"))
    with pytest.raises(UserError, match="is not empty any more; choose a folder that is new"):
        command.new([str(tmp_path), "--name", "my_cells", "--task", TASKS[0]])
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("README.md", "mine")]


@pytest.mark.slow
def test_a_shell_in_the_empty_folder_stays_in_it(tmp_path):
    """`mkdir my_cells && cd my_cells`, then `project.new .`."""
    (tmp_path / "my_cells").mkdir()
    words = [sys.executable, "-m", "project.new", ".", "--task", TASKS[0]]
    code = 'cd "$0" && "$@" && cat pyproject.toml && git status --porcelain'
    ended = run("sh", "-c", code, tmp_path / "my_cells", *words, stdin=subprocess.DEVNULL)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f".: my_cells, for {TASKS[0]}, made") and ended.stdout.endswith("]\n")
    assert not list((tmp_path / "my_cells").glob(".part*")) and len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def asked(monkeypatch) -> Callable[..., list[str]]:
    """Gives answers at a terminal, and the list of what was asked."""

    def answering(*answers: str) -> list[str]:
        questions, left = [], iter(answers)

        def answer(question: str) -> str:
            questions.append(question)
            return next(left)

        monkeypatch.setattr("builtins.input", answer)
        for stream in (sys.stdin, sys.stdout):
            monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
        return questions

    return answering


def test_a_terminal_is_asked_for_the_task_alone(tmp_path, asked, capsys):
    questions = asked(TASKS[-1])
    command.new([str(tmp_path / "my_cells")])
    assert questions == [f"task ({', '.join(TASKS)}): "]
    assert f"my_cells, for {TASKS[-1]}" in capsys.readouterr().out
    assert (tmp_path / "my_cells" / "src" / "my_cells" / TASKS[-1]).is_dir()


@pytest.mark.slow
def test_a_terminal_is_asked_for_a_name_if_the_folders_will_not_do(tmp_path, asked, capsys):
    questions = asked("my_cells")
    command.new([str(tmp_path / "my-cells"), "--task", TASKS[0]])
    assert len(questions) == 1 and questions[0].startswith("name of the package, since 'my-cells' will not do (")
    assert f"my-cells: my_cells, for {TASKS[0]}" in capsys.readouterr().out

    asked("json")
    with pytest.raises(UserError, match="--name json: Python has a module"):
        command.new([str(tmp_path / "x-y"), "--task", TASKS[0]])


def test_what_is_given_is_not_asked_for(tmp_path, asked):
    (tmp_path / "full" / "it").mkdir(parents=True)
    questions = asked()
    with pytest.raises(UserError, match="not empty"):
        command.new([str(tmp_path / "full")])
    with pytest.raises(UserError, match="--name x-y"):
        command.new([str(tmp_path / "my_cells"), "--task", TASKS[0], "--name", "x-y"])
    command.new([str(tmp_path / "my_cells"), "--task", ",".join(TASKS[:2])])
    assert questions == []
    assert all((tmp_path / "my_cells" / "src" / "my_cells" / task).is_dir() for task in TASKS[:2])


@pytest.mark.slow
def test_without_git_all_that_is_not_ignored_is_taken(tmp_path, monkeypatch):
    copy = tmp_path / "template"
    for file in TEMPLATE.files():
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, copy / file)
    for rubbish in (".venv/bin/python", "runs/x/version_0/config.yaml", "src/project/__pycache__/cnn.pyc"):
        (copy / rubbish).parent.mkdir(parents=True, exist_ok=True)
        (copy / rubbish).touch()
    bare = Template(copy)
    assert bare.files() == TEMPLATE.files()
    assert bare.version().commit == ""
    making.make(bare, tmp_path / "my_cells", "my_cells", TASKS[:1])
    assert 'commit = ""' in (tmp_path / "my_cells" / "pyproject.toml").read_text()


def test_from_an_installed_package_it_says_what_is_needed(tmp_path):
    (tmp_path / "project").mkdir()
    with pytest.raises(UserError, match="no checkout: clone the template with git"):
        Template(tmp_path)


def test_it_needs_the_standard_library_alone():
    code = "import sys, kit.cloning.command; print(*{name.split('.')[0] for name in sys.modules})"
    imported = set(
        subprocess.check_output(
            [sys.executable, "-S", "-c", code], text=True, env={"PYTHONPATH": str(ROOT / "src")}
        ).split()
    )
    assert imported <= {*sys.stdlib_module_names, "kit", "__main__"}


def test_what_means_the_package_is_renamed_and_the_word_is_not():
    assert (
        renamed("from project import cli, trust  # of this project", "a")
        == "from a import cli, trust  # of this project"
    )
    kept = [
        "[project]\nname",
        "[project.optional-dependencies]",
        "this project's",
        "a project.",
        "my-project.x",
        "projects.y",
    ]
    assert [renamed(text, "a") for text in kept] == kept
    meant = {
        'find_spec("project.x")': 'find_spec("a.x")',
        "list[project.Batch]": "list[a.Batch]",
        'f"project.{verb}"': 'f"a.{verb}"',
        r"-m (project\.fit)": r"-m (a\.fit)",
        "/src/project.egg-info/": "/src/a.egg-info/",
        '"project[zoo]"': '"a[zoo]"',
        'name = "project"': 'name = "a"',
        '"project -> project.x"': '"a -> a.x"',
        "import project, sys; project.load()": "import a, sys; a.load()",
        'containers = ["project.*"]': 'containers = ["a.*"]',
    }
    assert [renamed(text, "a") for text in meant] == list(meant.values())
