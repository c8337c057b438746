"""The notebooks run from scratch; what is committed is small, has its outputs, and tells of no machine."""

import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
TASK = min((ROOT / "src/project").glob("*/task.py")).parent.name
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MACHINE = re.compile(r"(?<![\w.])/(?:home|root|Users|tmp|private|var|usr|opt|mnt|work|workspace)/|[A-Z]:\\")

sys.path.append(str(ROOT / "notebooks"))
import execute  # noqa: E402

each = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def pictures(cell: NotebookNode) -> list[NotebookNode]:
    return [output for output in cell.outputs if output.output_type == "display_data"]


def words(output: NotebookNode) -> str:
    """What it says; pictures say nothing."""
    if output.output_type == "stream":
        return output.text
    return "\n".join(str(value) for kind, value in output.data.items() if kind.startswith("text/"))


@each
def test_committed_notebooks(file):
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    assert file.stat().st_size < 500_000
    numbers = [cell.execution_count for cell in code_cells(notebook)]
    assert numbers == list(range(1, len(numbers) + 1)), "not run from top to bottom: make notebooks"
    kinds = {output.output_type for output in outputs(notebook)}
    assert kinds >= {"stream", "display_data"} and "error" not in kinds
    texts = [cell.source for cell in notebook.cells] + [words(output) for output in outputs(notebook)]
    for text in [*texts, str(notebook.metadata)]:
        assert not MACHINE.search(text) and str(ROOT) not in text, text
    assert set(notebook.metadata) - {"needs"} == {"kernelspec", "language_info"}
    assert not any(cell.metadata for cell in notebook.cells)


@pytest.mark.slow
@each
def test_notebook_runs(file):
    notebook = nbformat.read(file, as_version=4)
    if missing := execute.missing_slices(notebook):
        pytest.skip(f"a task that is not here: {', '.join(missing)}")
    there = set(file.parent.iterdir())
    ran = execute.execute(file)
    assert not [output for output in outputs(ran) if output.output_type == "error"]
    saved, drawn = ([len(pictures(cell)) for cell in code_cells(one)] for one in (notebook, ran))
    assert saved == drawn, "the pictures in the file are not this notebook's: make notebooks"
    assert set(file.parent.iterdir()) == there


def a_notebook(folder: Path, source: str, needs: list[str]) -> Path:
    file = folder / "small.ipynb"
    cells = [nbformat.v4.new_code_cell("print('before')"), nbformat.v4.new_code_cell(source)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"needs": needs}), file)
    return file


def test_outputs_are_saved(tmp_path, capsys):
    file = a_notebook(tmp_path, "import os\nos.mkdir('files')\nprint('two\\rthree', os.listdir())", [TASK])
    assert execute.main([file]) == 0
    saved = nbformat.read(file, as_version=4)
    assert [words(output) for output in outputs(saved)] == ["before\n", "three ['files']\n"]
    assert saved.metadata == {"needs": [TASK], "language_info": {"name": "python"}}
    assert "small.ipynb: " in capsys.readouterr().out and list(tmp_path.iterdir()) == [file]


def test_failed_notebook_is_not_saved(tmp_path, tmp_path_factory, monkeypatch, capsys):
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    file = a_notebook(tmp_path, "import tempfile\nprint(tempfile.mkdtemp())\n1 / 0", [])
    before = file.read_bytes()
    assert execute.main([file]) == 1
    assert "small.ipynb: not saved" in (said := capsys.readouterr().err) and "ZeroDivisionError" in said
    assert str(temporary) in said and not list(temporary.iterdir())
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


def test_notebook_of_a_removed_task_is_left_out(tmp_path, capsys):
    file = a_notebook(tmp_path, "from project.telepathy import Reader", ["telepathy"])
    assert execute.main([file]) == 0
    assert "left out, since telepathy is not here" in capsys.readouterr().out


def test_unknown_notebook_is_one_line(capsys):
    assert execute.main([Path("telepathy")]) == 2
    assert "no file telepathy" in capsys.readouterr().err
