"""What is wrong with labels, and files that nobody uses: what data modules of folders say in `annotation_faults`."""

from collections.abc import Iterator
from pathlib import Path

from project import UserError
from project.checks.faults import Fault
from project.pipeline.decode import EXTENSIONS
from project.pipeline.folders import files_below


class Complaints:
    """What is wrong with labels: it stops a run, but a check notes it in `noted` and goes on."""

    def __init__(self) -> None:
        self.noted: list[Fault] | None = None

    def __call__(self, kind: str, file: Path, message: str, line: int | None = None) -> None:
        """
        Raises:
            UserError: no check is under way.
        """
        if self.noted is None:
            raise UserError(f"{file}{'' if line is None else f':{line}'}: {message}")
        self.noted.append(Fault(kind, "error", str(file), line, message))


def beside_classes(folder: Path) -> Iterator[Fault]:
    """Images in a folder of classes' folders that are in none of them."""
    for path in folder.iterdir():
        if path.suffix.lower() in EXTENSIONS and path.is_file():
            told = "in no class's folder, so it is not used; move it into its class's"
            yield Fault("annotation-missing", "warning", str(path), None, told)


def of_other_formats(folder: Path) -> Iterator[Fault]:
    """Files in a folder and below it that are no images which are read here."""
    for path in files_below(folder):
        if path.is_file() and path.suffix.lower() not in EXTENSIONS:
            told = "not used, since its extension is no image's that is read here; convert it, or take it away"
            yield Fault("ignored-file", "warning", str(path), None, told)
