"""`python -m project.new`: what a clone contains, and what is refused."""

import io
import re
import shutil
import subprocess
import sys
import tokenize
import tomllib
from itertools import combinations
from pathlib import Path

import nbformat
import pytest
import yaml

from kit.cloning import command, making, updating
from kit.cloning.command import is_free
from kit.cloning.making import LIBRARY, OTHER_NAMES, remove_marks, rename_package, task_of
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


def test_package_is_renamed_everywhere(clone):
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


def test_library_is_copied_byte_by_byte(clone):
    folder, _ = clone
    library = [file for file in TEMPLATE.files() if file.startswith(LIBRARY)]
    assert len(library) > 100
    assert all((folder / file).read_bytes() == (ROOT / file).read_bytes() for file in library)


def test_other_tasks_are_left_out(clone):
    folder, tasks = clone
    gone = "|".join([*(task for task in TASKS if task not in tasks), "cloning"])
    named = re.compile(
        rf"(?<![\w.])(?:project|{folder.name})\.(?:{gone}|new)\b|\b(?:configs|notebooks|tests|runs|{folder.name})/(?:{gone})\b"
        rf"|(?:{gone})\w*\.(?:yaml|ipynb|md)|test-clones|new_task|\bonly: |CLONE_|TEMPLATE_(?:NAME|COMMIT|URL|VERSION)"
    )
    for file, text in texts(folder).items():
        assert not re.search(rf"\b(?:{gone})\b", file), file
        lines = [line for line in text.splitlines() if named.search(line)]
        assert not lines, (file, lines)


def test_chosen_tasks_are_complete(clone):
    folder, tasks = clone
    there = set(run("git", "ls-files", cwd=folder).stdout.splitlines())
    for task in tasks:
        own = [
            file for file in TEMPLATE.files() if f"/{task}/" in file or re.match(rf"(?:configs|docs)/{task}[_.]", file)
        ]
        assert len(own) > 10 and {rename_package(file, "project", folder.name) for file in own} <= there
        for file in (f"notebooks/{task}.ipynb", f"docs/{task}.md"):
            assert file in there or not (ROOT / file).exists()
    assert (folder / ".ci/run").stat().st_mode & 0o100


def test_docs_pages_and_pictures(clone):
    folder, tasks = clone
    left_out = {"cloning.md", "new_task.md"}
    for file in (ROOT / "docs").iterdir():
        task = task_of(file.name, TASKS)
        assert (folder / "docs" / file.name).exists() == (task in tasks or (task is None and file.name not in left_out))
    assert (folder / "docs/dashboard.png").read_bytes() == (ROOT / "docs/dashboard.png").read_bytes()


def test_readme(clone):
    folder, tasks = clone
    text = (folder / "README.md").read_text()
    assert text.startswith(f"# {folder.name}\n\nA project for {' and '.join(tasks)} ")
    for verb in ("fit", "check", "predict", "export"):
        assert f".venv/bin/python -m {folder.name}.{verb} " in text
    for task in TASKS:
        assert (f"(docs/{task}.md)" in text) == (task in tasks)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (folder / link).is_file(), link


def test_workflow_and_issue_forms(clone):
    folder, _ = clone
    workflow = yaml.safe_load((folder / ".github/workflows/checks.yml").read_text())
    targets = re.findall(r"^([\w-]+):", (folder / "Makefile").read_text(), re.MULTILINE)
    steps = [step["run"] for step in workflow["jobs"]["checks"]["steps"] if "run" in step]
    assert steps and {step.removeprefix("make ") for step in steps} <= set(targets)
    for form in (folder / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        content = yaml.safe_load(form.read_text())
        assert {"name", "description", "body"} <= set(content)
        assert all(field["type"] in ("textarea", "input") and field["attributes"]["label"] for field in content["body"])


def test_make_test_runs_own_tests_and_a_few_of_the_library(clone):
    folder, _ = clone
    commands = run("make", "--dry-run", "--old-file=.venv/.installed", "test", cwd=folder).stdout
    folders = re.findall(r"\btests/[\w/]+", commands)
    assert folders[0] == f"tests/{folder.name}" and all((folder / name).is_dir() for name in folders)
    assert 1 < len(folders) < 6 and "tests/kit" not in folders


def test_marked_lines_are_kept_for_their_tasks():
    text = """\
a
b  # only: cats
c  # only: cats, dogs
| d | <!-- only: template -->
# only: dogs
e
    # end only
<!-- only: cats -->
f  # only the best
<!-- end only -->
# clone: g
h # clone: h
"""
    plain = remove_marks(text, ["cats"])
    assert plain == "a\nb\nc\nf  # only the best\ng\nh # clone: h\n"
    assert remove_marks(text, ["dogs"]) == "a\nc\ne\ng\nh # clone: h\n"
    assert remove_marks(plain.replace("g\n", ""), ["dogs"]) == plain.replace("g\n", "")


def test_owner_of_a_file():
    files = {
        "src/project/cats/task.py": "cats",
        "configs/cats.yaml": "cats",
        "configs/cats_wild.yaml": "cats",
        "docs/cats.md": "cats",
        "docs/cats_and_dogs.md": "cats",
        "docs/catsup.md": None,
        "docs/concats.md": None,
        "docs/wild_cats.md": None,
        "src/project/test.py": None,
    }
    assert {file: task_of(file, ["cats", "dogs"]) for file in files} == files
    for name, task in OTHER_NAMES.items():
        assert task_of(f"docs/{name}.png", ["cats"]) == task
        assert task_of(f"docs/{name}.png", ["cats", name]) == name  # by then it is a task itself


def test_address_is_public():
    for known in ("https://example.org/a/project.git", "ssh://git@example.org/a", "git@example.org:a/b.git"):
        assert address(known) == known
    assert (
        address("https://me:secret@example.org/a") == address("https://token@example.org/a") == "https://example.org/a"
    )
    for local in ("", "/home/me/project", "../project", "file:///home/me/project", "C:\\project", "backup", 'git@a:b"'):
        assert address(local) == ""


def test_origin_is_in_pyproject(clone):
    folder, tasks = clone
    pyproject = tomllib.loads((folder / "pyproject.toml").read_text())
    assert pyproject["project"]["name"] == folder.name
    assert pyproject["tool"]["importlinter"]["root_packages"] == [folder.name, "kit"]
    origin, version = pyproject["tool"]["template"], TEMPLATE.version()
    assert origin == {
        "url": version.url,
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


def test_makefile_and_configs_are_complete(clone):
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


BAD = ["My_cells", "my-cells", "2cells", "_cells", "zellen_ü", "class", "project", "json", "torch", "PIL", "sklearn"]
BAD += ["tests", "kit", TASKS[0]]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_name_is_refused(name, tmp_path, capsys):
    with pytest.raises(
        UserError, match=rf"--name {name}: begin with a lower-case letter.*keyword.*folder.*choose another"
    ):
        command.new([str(tmp_path / "there"), "--task", TASKS[0], "--name", name])
    assert list(tmp_path.iterdir()) == []


def test_folder_of_the_same_name_does_not_matter(tmp_path, monkeypatch):
    """A folder in the working directory is no installed package, though Python finds it there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_cells").mkdir()
    assert is_free("my_cells", TEMPLATE)


WRONG = [
    (
        ["--task", "detectoin"],
        r"no task 'detectoin'; did you mean 'detection'\?; give one or several, separated by commas, of: ",
    ),
    (["--task", f"{TASKS[0]},detectoin"], "no task 'detectoin'"),
    ([], "which task"),
    (["--task", ","], "which task"),
    (["--task"], "expected one argument; usage: "),
    (["--tasks", "detection"], "unrecognized arguments|following arguments"),
    (["--update", "--name", "x"], "leave out --name and --task"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_wrong_arguments_are_refused(words, message, tmp_path):
    with pytest.raises(UserError, match=message):
        command.new([str(tmp_path / "cells"), *words])
    assert list(tmp_path.iterdir()) == []


def test_mistake_is_one_line_with_exit_code_2(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    ended = new(tmp_path / "full", "--name", "my_cells", "--task", TASKS[0])
    assert ended.returncode == 2 and ended.stdout == ""
    assert re.fullmatch(
        r"error: .*/full cannot be written \(Directory not empty\); choose a new folder\n", ended.stderr
    )
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]


def test_bad_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for place in (tmp_path / "file", tmp_path / "link", tmp_path / "file" / "folder", ROOT / "my_cells"):
        with pytest.raises(UserError, match=r"choose a (new )?folder"):
            command.new([str(place), "--name", "my_cells", "--task", TASKS[0]])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"] and not (ROOT / "my_cells").exists()


FAILURES = [OSError(28, "No space left on device"), KeyboardInterrupt()]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
@pytest.mark.parametrize("exists", [False, True], ids=["new", "empty"])
def test_failure_leaves_nothing(failure, exists, tmp_path, monkeypatch):
    place = tmp_path / "place"

    def fail(folder: Path) -> None:
        assert (folder / "pyproject.toml").is_file() and folder.parent == tmp_path
        raise failure

    monkeypatch.setattr(making, "_format", fail)
    if exists:
        place.mkdir()
    with pytest.raises(UserError if isinstance(failure, OSError) else KeyboardInterrupt):
        command.new([str(place), "--name", "my_cells", "--task", TASKS[0]])
    assert list(tmp_path.rglob("*")) == [place] * exists


def test_file_that_appears_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    (tmp_path / "place").mkdir()
    monkeypatch.setattr(making, "_format", lambda _: (tmp_path / "place/README.md").write_text("mine"))
    with pytest.raises(UserError, match="cannot be written"):
        command.new([str(tmp_path / "place"), "--name", "my_cells", "--task", TASKS[0]])
    assert [(path.name, path.read_text()) for path in tmp_path.rglob("*.md")] == [("README.md", "mine")]


def test_empty_folder_is_replaced(tmp_path, capsys):
    (tmp_path / "my_cells").mkdir()
    command.new([str(tmp_path / "my_cells"), "--task", ",".join(TASKS[:2])])
    assert capsys.readouterr().out.endswith(f"next: cd {tmp_path / 'my_cells'} && make fit\n")
    assert all((tmp_path / "my_cells" / "src" / "my_cells" / task).is_dir() for task in TASKS[:2])
    assert [path.name for path in tmp_path.iterdir()] == ["my_cells"]


def test_missing_git_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="git is not installed"):
        command.new([str(tmp_path / "my_cells"), "--task", TASKS[0]])


def test_template_outside_of_git_is_refused(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with pytest.raises(UserError, match="not a git checkout: git clone the template"):
        Template(tmp_path)


@pytest.fixture
def small_template(tmp_path) -> Template:
    """A checkout with the tasks cats and dogs, and a task that git ignores."""
    for file in ("src/project/cats/task.py", "src/project/dogs/task.py", "src/kit/a.py", ".gitignore"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("/src/project/secret/\n__pycache__/\n")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'project'\nversion = '1'\n")
    run("git", "init", "--quiet", cwd=tmp_path)
    run("git", "add", "--all", cwd=tmp_path)
    (tmp_path / "src/project/secret").mkdir()
    (tmp_path / "src/project/secret/task.py").touch()
    return Template(tmp_path)


def test_files_that_git_does_not_track(small_template):
    files = ("src/project/owls/task.py", "src/kit/b.py", "photos/a.jpg", "my net.py", "not UTF-8 \udce9")
    for file in (*files, "src/kit/__pycache__/a.pyc", "src/kit/.ipynb_checkpoints/a", ".DS_Store"):
        (small_template.root / file).parent.mkdir(parents=True, exist_ok=True)
        (small_template.root / file).touch()
    assert small_template.untracked_paths() == [
        *("my net.py", "not UTF-8 \udce9", "photos/", "src/kit/b.py", "src/project/owls/")
    ]


def test_only_tracked_tasks_are_offered(small_template, monkeypatch, tmp_path):
    assert small_template.tasks == ["cats", "dogs"]
    monkeypatch.setattr(Template, "here", lambda: small_template)
    with pytest.raises(UserError, match="no task 'secret'"):
        command.new([str(tmp_path / "my_cells"), "--task", "cats,secret"])
    with pytest.raises(UserError, match="no task 'bats'; did you mean 'cats'"):
        command.new([str(tmp_path / "my_cells"), "--task", "bats"])


def test_project_that_would_lack_files_is_refused(tmp_path, monkeypatch, capsys):
    lacking = ["photos/", f"src/project/{TASKS[0]}/mine.py"]
    monkeypatch.setattr(Template, "untracked_paths", lambda template: lacking)
    monkeypatch.setattr(command, "make", lambda *_: TEMPLATE.version())
    with pytest.raises(UserError, match=rf"{lacking[1]}, .*git add") as caught:
        command.new([str(tmp_path / "my_cells"), "--task", TASKS[0]])
    assert "photos" not in str(caught.value) and list(tmp_path.iterdir()) == []
    del lacking[1]
    command.new([str(tmp_path / "my_cells"), "--task", TASKS[0]])
    assert "photos/" in capsys.readouterr().out


def test_cloning_imports_only_the_standard_library():
    code = "import sys, kit.cloning.command; print(*{name.split('.')[0] for name in sys.modules})"
    imported = set(
        subprocess.check_output(
            [sys.executable, "-S", "-c", code], text=True, env={"PYTHONPATH": str(ROOT / "src")}
        ).split()
    )
    assert imported <= {*sys.stdlib_module_names, "kit", "__main__"}


def test_only_the_package_is_renamed():
    assert (
        rename_package("from project import cli, trust  # of this project", "project", "a")
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
    assert [rename_package(text, "project", "a") for text in kept] == kept
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
    assert [rename_package(text, "project", "a") for text in meant] == list(meant.values())


def test_folder_whose_pyproject_is_not_utf8_is_no_clone(tmp_path):
    (tmp_path / "pyproject.toml").write_bytes("# caf\xe9".encode("latin-1"))
    with pytest.raises(UserError, match="is not a clone"):
        updating.update(TEMPLATE, tmp_path)
