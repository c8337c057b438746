"""Run notebooks from scratch, and save them with their outputs: `python notebooks/execute.py [FILE ...]`.

By default, all notebooks in this folder are run. A notebook is saved only after all its cells have run. If a cell
fails, the file stays unchanged.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from kit.ground.files import replacing

FOLDER = Path(__file__).resolve().parent
PACKAGE = FOLDER.parent / "src" / "project"
SECONDS = 180  # a cell that takes longer is stopped


def execute(file: Path) -> NotebookNode:
    """Return the notebook with new outputs, and without metadata about the machine.

    Raises:
        CellExecutionError, CellTimeoutError, DeadKernelError: a cell fails, takes more than `SECONDS`, or ends Python.
    """
    notebook = nbformat.read(file, as_version=4)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # for what a notebook writes
        client = NotebookClient(
            notebook,
            timeout=SECONDS,
            resources={"metadata": {"path": folder}},
            record_timing=False,
            coalesce_streams=True,  # drops the lines that a progress bar has overwritten
            extra_arguments=["--log-level=ERROR"],  # no warning that local messages are not encrypted
        )
        # Without ipywidgets, tqdm warns in notebooks. The warning would store the path of the environment.
        environment = {"TMPDIR": folder, "PYTHONWARNINGS": "ignore:IProgress not found"}
        client.execute(env={**os.environ, **environment})
    notebook.metadata.language_info = {"name": "python"}  # the kernel adds its version
    for cell in notebook.cells:
        cell.metadata.clear()
    return notebook


def missing_slices(notebook: NotebookNode) -> list[str]:
    """Return the tasks in the metadata's entry `needs` that this project lacks, as clones may."""
    return [name for name in notebook.metadata.get("needs", []) if not (PACKAGE / name).is_dir()]


def save(notebook: NotebookNode, file: Path) -> None:
    with replacing(file) as part:
        nbformat.write(notebook, part)


def main(files: list[Path]) -> int:
    """Run and save notebooks. Return the exit code: 1 if a notebook failed, 2 if a file does not exist."""
    failed = 0
    if missing := [str(file) for file in files if not file.is_file()]:
        print(f"no file {', '.join(missing)}; notebooks are in {FOLDER.name}/", file=sys.stderr)
        return 2
    for file in files or sorted(FOLDER.glob("*.ipynb")):
        if slices := missing_slices(nbformat.read(file, as_version=4)):
            print(f"{file.name}: left out, since {', '.join(slices)} is not here")
            continue
        started = time.monotonic()
        try:
            save(execute(file), file)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            print(f"{file.name}: not saved\n{error}", file=sys.stderr)
            failed = 1
        else:
            print(f"{file.name}: {time.monotonic() - started:.0f} s, {file.stat().st_size / 1000:.0f} kB", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
