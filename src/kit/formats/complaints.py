"""What is wrong with labels, and files that nobody uses: what data modules of folders say in `annotation_faults`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from kit.data.decode import EXTENSIONS
from kit.formats.folders import files_below
from kit.ground.errors import UserError
from kit.ground.faults import Fault, fault


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


def crowd_faults(counts: dict[str, tuple[int, int]], file: object) -> list[Fault]:
    """Return a fault for each class with crowds.

    Args:
        counts: class name to the number of its crowds and of all its annotations.
        file: the file or folder that holds the annotations.
    """
    ignored = "crowds are neither trained on nor measured; --data.crowds objects uses them as objects"
    return [
        fault("crowd", file, f"{crowds:,} of {total:,} annotations of '{name}' are crowds; {ignored}")
        for name, (crowds, total) in counts.items()
    ]


def joined_faults(messages: Sequence[str], file: object) -> list[Fault]:
    """Return a fault for each message about several classes of one name."""
    return [fault("class-joined", file, message) for message in messages]
