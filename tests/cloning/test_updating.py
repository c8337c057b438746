"""`python -m project.new FOLDER --update`: merge changes of the template into a clone that has changed too."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kit.cloning.template import Template

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
TASKS = Template(ROOT).tasks
TASK = TASKS[0]
BEFORE = "class ConvBlock(nn.Sequential):"  # a line that the template and the clone change
IDENTITY = {f"GIT_{who}_{what}": f"{what}@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@pytest.fixture(autouse=True)
def somebody(monkeypatch):
    for name, value in {**IDENTITY, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}.items():
        monkeypatch.setenv(name, value)


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder: Path, message: str) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", message)
    return git(folder, "rev-parse", "HEAD").strip()


def changed(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def new(template: Path, *words: str | Path, **variables: str) -> subprocess.CompletedProcess:
    """As it is called in a template's checkout."""
    command = [sys.executable, "-m", "project.new", *map(str, words)]
    environment = {
        "PYTHONPATH": str(template / "src"),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        **IDENTITY,
        **variables,
    }
    return subprocess.run(command, cwd=template, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> tuple[Path, Path]:
    """A template with a history, and a clone of its first version."""
    folder = tmp_path_factory.mktemp("histories")
    template, clone = folder / "template", folder / "my_cells"
    for file in Template(ROOT).files():
        (template / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, template / file)
    cnn = template / "src/project/cnn.py"
    cnn.write_text(cnn.read_text().replace('"""', '"""Conv-BN-ReLU, and nothing else.\n\n', 1))  # for `changed`
    git(template, "init", "--quiet", "--initial-branch=main")
    subprocess.run(["git", "add", "--all", "--force"], cwd=template, check=True)
    subprocess.run(
        ["git", "commit", "--quiet", "-m", "First"], cwd=template, check=True, env={**IDENTITY, "PATH": "/usr/bin:/bin"}
    )
    ended = new(template, clone, "--task", TASK)
    assert ended.returncode == 0, ended.stderr
    return template, clone


@pytest.fixture
def pair(first, tmp_path) -> tuple[Path, Path]:
    """The same, for a test to change."""
    for folder in first:
        shutil.copytree(folder, tmp_path / folder.name)
    return tmp_path / "template", tmp_path / "my_cells"


def grow(template: Path) -> str:
    """The template's later fixes: in shared code, in the clones' README, a file more, one less."""
    changed(template / "src/project/cnn.py", BEFORE, f"{BEFORE}  # a fix in project.cnn.")
    changed(template / "pyproject.toml", 'version = "0.1.0"', 'version = "0.2.0"')
    changed(template / "clone/README.md", "\n## Pages\n", "\n## Pages\n\nNew: `python -m project.fit` does more.\n")
    (template / "src/project/later.py").write_text('"""Came later; see project.cnn."""\n')
    (template / "notes").mkdir()
    (template / "notes/later.md").write_text("A folder more.\n")
    (template / "src/project/other/task.py").parent.mkdir()
    (template / "src/project/other/task.py").write_text('"""A task that the clone did not want."""\n')
    (template / "benchmarks/learning.py").unlink()
    return commit(template, "Second")


def test_changes_of_both_sides_are_merged(pair):
    template, clone = pair
    changed(clone / "src/my_cells/cnn.py", "self.widths = list(widths)", "self.widths = [*widths]  # mine")
    changed(clone / "README.md", "# my_cells\n", "# my_cells\n\nMy own words.\n")
    changed(
        clone / "pyproject.toml",
        "authors = []\n" if "authors" in (clone / "pyproject.toml").read_text() else 'license = "MIT"',
        'license = "MIT"  # ours',
    )
    (clone / "mine.py").write_text("import my_cells\n")
    (clone / "configs" / f"{TASK}_mine.yaml").write_text("trainer: {max_epochs: 3}\n")
    (clone / "tests/my_cells/test_cnn.py").unlink()
    git(clone, "mv", "configs/trainer/bf16.yaml", "configs/trainer/half.yaml")
    mine = commit(clone, "Mine")
    (clone / "notes.txt").write_text("not committed, and nobody's business\n")
    second = grow(template)

    ended = new(template, clone, "--update")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Update from the template: " in ended.stdout and "in a commit of its own" in ended.stdout
    assert git(clone, "rev-parse", "HEAD~1").strip() == mine
    author = "NAME@localhost <EMAIL@localhost>"
    assert set(git(clone, "log", "--format=%an <%ae>%n%cn <%ce>").splitlines()) == {author}
    cnn = (clone / "src/my_cells/cnn.py").read_text()
    assert "a fix in my_cells.cnn." in cnn and "# mine" in cnn
    readme = (clone / "README.md").read_text()
    assert "My own words." in readme and "New: `python -m my_cells.fit` does more." in readme
    assert "see my_cells.cnn" in (clone / "src/my_cells/later.py").read_text()
    pyproject = (clone / "pyproject.toml").read_text()
    assert f'commit = "{second}"' in pyproject and 'version = "0.2.0"' in pyproject and "# ours" in pyproject
    assert (clone / "mine.py").is_file() and (clone / "configs" / f"{TASK}_mine.yaml").is_file()
    assert not (clone / "tests/my_cells/test_cnn.py").exists() and (clone / "configs/trainer/half.yaml").is_file()
    assert not (clone / "benchmarks/learning.py").exists() and not (clone / "src/my_cells/other").exists()
    assert git(clone, "status", "--porcelain") == "?? notes.txt\n"

    ended = new(template, clone, "--update")
    assert ended.returncode == 0 and "is up to date with the template 0.2.0" in ended.stdout
    changed(template / "src/project/cnn.py", "a fix in project.cnn.", "two fixes in project.cnn.")
    commit(template, "Third")
    ended = new(template, clone, "--update")  # from the second version on, not from the first
    assert ended.returncode == 0, ended.stderr
    assert "two fixes in my_cells.cnn." in (clone / "src/my_cells/cnn.py").read_text()
    assert git(clone, "show", "--format=", "--name-only", "HEAD").split() == ["pyproject.toml", "src/my_cells/cnn.py"]
    assert git(template, "status", "--porcelain") == ""


def test_each_version_is_made_by_its_own_rules(pair):
    """The second version has a rule that adds a file to clones, and a rule that leaves a file out."""
    template, clone = pair
    making = template / "src/kit/cloning/making.py"
    changed(making, 'ALSO_IN_CLONES = ("', 'ALSO_IN_CLONES = ("CHANGELOG.md", "')
    changed(making, 'NOT_IN_CLONES = ("', 'NOT_IN_CLONES = ("docs/scaling.md", "')
    commit(template, "Second")
    assert (clone / "docs/scaling.md").is_file() and not (clone / "CHANGELOG.md").exists()
    ended = new(template, clone, "--update")
    assert ended.returncode == 0, ended.stderr
    changes = git(clone, "show", "--format=", "--name-status", "--no-renames", "HEAD").splitlines()
    assert {"A\tCHANGELOG.md", "D\tdocs/scaling.md"} <= {*changes}


def test_version_that_cannot_make_the_clone_is_named(pair):
    template, clone = pair
    changed(template / "src/kit/cloning/making.py", "    _format(part)\n", '    raise UserError("no pen")\n')
    second = commit(template, "Second")
    ended = new(template, clone, "--update")
    assert ended.returncode == 2 and f"the template {second[:10]} cannot make my_cells: no pen\n" in ended.stderr
    assert git(clone, "status", "--porcelain") == ""


def test_conflict_can_be_resolved_or_undone(pair):
    template, clone = pair
    changed(clone / "src/my_cells/cnn.py", BEFORE, f"{BEFORE}  # as I like it")
    mine = commit(clone, "Mine")
    grow(template)
    ended = new(template, clone, "--update")
    assert ended.returncode == 1
    assert "CONFLICT (content): Merge conflict in src/my_cells/cnn.py" in ended.stderr
    assert "git cherry-pick --continue" in ended.stderr and "Traceback" not in ended.stderr
    text = (clone / "src/my_cells/cnn.py").read_text()
    assert re.search(r"<{7} HEAD\n.*as I like it.*\n={7}\n.*a fix in my_cells\.cnn\..*\n>{7} ", text)
    assert "UU src/my_cells/cnn.py" in git(clone, "status", "--porcelain")
    assert "see my_cells.cnn" in (clone / "src/my_cells/later.py").read_text()

    ended = new(template, clone, "--update")
    assert ended.returncode == 2 and "has changes that are not committed" in ended.stderr
    git(clone, "cherry-pick", "--abort")
    assert git(clone, "rev-parse", "HEAD").strip() == mine
    assert git(clone, "status", "--porcelain") == ""

    new(template, clone, "--update")
    (clone / "src/my_cells/cnn.py").write_text(re.sub(r"(?s)<{7} HEAD\n(.*?)={7}.*?>{7}[^\n]*\n", r"\1", text))
    git(clone, "add", "--all")
    git(clone, "-c", "core.editor=true", "cherry-pick", "--continue")
    assert "as I like it" in (clone / "src/my_cells/cnn.py").read_text()
    assert "up to date" in new(template, clone, "--update").stdout


def test_refused_update_changes_nothing(pair, tmp_path):
    template, clone = pair

    def refused(folder: Path, message: str) -> None:
        before = git(clone, "rev-parse", "HEAD")
        ended = new(template, folder, "--update")
        assert ended.returncode == 2 and message in ended.stderr and "Traceback" not in ended.stderr, ended.stderr
        assert git(clone, "rev-parse", "HEAD") == before

    refused(tmp_path / "nothing", "is not a clone")
    refused(template, "is not a clone")
    grow(template)
    changed(clone / "src/my_cells/cnn.py", BEFORE, f"{BEFORE}  # mine")
    refused(clone, "has changes that are not committed")
    assert "# mine" in (clone / "src/my_cells/cnn.py").read_text()
    git(clone, "checkout", "--quiet", "--", ".")
    (clone / "src/my_cells/later.py").write_text("mine, and not committed\n")
    overwritten = "nothing was changed in {}: the update would overwrite {}, which git does not track; git add --force"
    refused(clone, overwritten.format(clone, "src/my_cells/later.py"))
    assert (clone / "src/my_cells/later.py").read_text() == "mine, and not committed\n"
    (clone / ".git/info/exclude").write_text("later.py\n")
    refused(clone, overwritten.format(clone, "src/my_cells/later.py"))
    assert (clone / "src/my_cells/later.py").read_text() == "mine, and not committed\n"
    (clone / "src/my_cells/later.py").unlink()
    (clone / ".git/info/exclude").write_text("notes\n")
    (clone / "notes").write_text("mine, where the template now has a folder\n")
    refused(clone, overwritten.format(clone, "notes"))
    assert (clone / "notes").read_text() == "mine, where the template now has a folder\n"
    (clone / "notes").unlink()
    (clone / "notes").symlink_to(tmp_path)
    refused(clone, overwritten.format(clone, "notes"))
    (clone / "notes").unlink()
    (clone / "notes/later.md").mkdir(parents=True)
    (clone / "notes/later.md/mine").touch()
    refused(clone, overwritten.format(clone, "notes/later.md/mine"))
    shutil.rmtree(clone / "notes")
    (clone / ".git/info/exclude").write_text("cnn.py\n")
    git(clone, "rm", "--quiet", "--cached", "src/my_cells/cnn.py")
    git(clone, "commit", "--quiet", "-m", "Mine alone")
    refused(clone, overwritten.format(clone, "src/my_cells/cnn.py"))
    git(clone, "reset", "--quiet", "--hard", "HEAD~1")
    assert BEFORE in (clone / "src/my_cells/cnn.py").read_text()

    changed(
        clone / "pyproject.toml",
        re.search(r'commit = ".*"', (clone / "pyproject.toml").read_text())[0],
        f'commit = "{"0" * 40}"',
    )
    commit(clone, "From another template")
    refused(clone, "does not contain the version")
    shutil.move(clone / ".git", tmp_path / "history")
    changed(
        clone / "pyproject.toml", f'commit = "{"0" * 40}"', f'commit = "{git(template, "rev-parse", "HEAD~1").strip()}"'
    )
    ended = new(template, clone, "--update")
    assert ended.returncode == 2 and "is not the root of a git repository" in ended.stderr


def test_version_without_the_library_is_refused(pair):
    """Python would find the library of another version."""
    template, clone = pair
    git(template, "mv", "src/kit", "src/older")
    older = commit(template, "Before the library")
    git(template, "mv", "src/older", "src/kit")
    commit(template, "After it")
    pyproject = clone / "pyproject.toml"
    pyproject.write_text(re.sub(r'commit = ".*"', f'commit = "{older}"', pyproject.read_text()))
    before = commit(clone, "Of an older version")
    ended = new(template, clone, "--update")
    assert ended.returncode == 2 and f"the template {older[:10]} has no src/kit" in ended.stderr, ended.stderr
    assert git(clone, "rev-parse", "HEAD").strip() == before and git(clone, "status", "--porcelain") == ""


def test_variables_of_a_git_hook_are_ignored(pair, tmp_path):
    """git tells its hooks where the files of its repository are."""
    template, _ = pair
    before = git(template, "log", "--format=%H")
    hook = {"GIT_DIR": str(template / ".git"), "GIT_INDEX_FILE": str(template / ".git/index"), "GIT_PREFIX": "src/"}
    ended = new(template, tmp_path / "my_own", "--task", TASK, **hook)
    assert ended.returncode == 0, ended.stderr
    assert git(tmp_path / "my_own", "rev-list", "--count", "HEAD") == "1\n"
    assert git(template, "log", "--format=%H") == before and git(template, "status", "--porcelain") == ""


@pytest.mark.skipif(len(TASKS) < 2, reason="of two tasks one is taken away")
def test_clone_with_a_name_that_is_now_refused_is_updated(pair, tmp_path):
    """The template has gained a folder of the clone's name. It has also dropped a task."""
    template, clone = pair
    both = tmp_path / "my_own"
    git(template, "remote", "add", "origin", "https://me:secret@example.org/project.git")
    ended = new(template, both, *(word for task in TASKS[:2] for word in ("--task", task)))
    assert ended.returncode == 0, ended.stderr
    git(template, "rm", "-r", "--quiet", f"src/project/{TASK}", f"configs/{TASK}*.yaml", f"tests/project/{TASK}")
    (template / "my_own").mkdir()
    (template / "my_own/notes.txt").touch()
    grow(template)
    assert "template folder" in new(template, tmp_path / "x", "--task", TASKS[1], "--name", "my_own").stderr

    ended = new(template, both, "--update")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f": {TASK}\n" in ended.stdout
    assert not (both / "src/my_own" / TASK).exists() and (both / "src/my_own" / TASKS[1] / "task.py").is_file()
    url, pyproject = "https://example.org/project.git", (both / "pyproject.toml").read_text()
    assert f'url = "{url}"\nname = "my_own"\ntasks = ["{TASKS[1]}"]\n' in pyproject
    assert "a fix in my_own.cnn." in (both / "src/my_own/cnn.py").read_text()

    ended = new(template, clone, "--update")  # it has no other task
    assert ended.returncode == 2 and re.search(rf"error: the template \w{{10}} has no task {TASK}\n", ended.stderr)
    assert git(clone, "status", "--porcelain") == ""


def test_plain_git_clone_is_merged_with_git(pair, tmp_path):
    """A folder was removed from this clone."""
    template, _ = pair
    git(tmp_path, "clone", "--quiet", str(template), "plain")
    plain = tmp_path / "plain"
    shutil.rmtree(plain / "tests/project" / TASK)
    changed(plain / "src/project/cnn.py", "self.widths = list(widths)", "self.widths = [*widths]  # mine")
    commit(plain, "Mine")
    grow(template)
    git(plain, "pull", "--quiet", "--no-rebase", "--no-edit")
    text = (plain / "src/project/cnn.py").read_text()
    assert "# mine" in text and "a fix in project.cnn." in text and not (plain / "tests/project" / TASK).exists()
