"""Make the folder of a run, and ensure that the run writes and deletes files only in it."""

import os
import re
from contextlib import suppress
from pathlib import Path

from kit.ground.errors import UserError

# Lightning opens these texts with fsspec and not as paths, as `file:///etc` or `simplecache::s3://bucket`.
URL = re.compile(r"[A-Za-z][\w+.-]+:(/|:)")
# Files that are replaced by new ones and never written in place, so that a link at their path does no harm.
REPLACED = re.compile(r"(config\.yaml|results\.json|checkpoints/[^/]+\.ckpt)")


def next_version(folder: Path) -> Path:
    """Return `folder/version_N`, where N is one more than the highest number that exists, or 0."""
    names = [path.name.removeprefix("version_") for path in folder.glob("version_*")]
    return folder / f"version_{max((int(name) + 1 for name in names if name.isdecimal()), default=0)}"


def make_next_version(folder: Path) -> Path:
    """Make the next `folder/version_N` and return it. Runs that start at the same moment get a folder each.

    Raises:
        UserError: the folder cannot be made.
    """
    while True:
        version = next_version(folder)
        try:
            version.mkdir(parents=True)
        except FileExistsError:  # another run has made it at the same time
            continue
        except OSError as error:
            raise UserError(f"the run's folder {version} cannot be made: {error.strerror}") from None
        return version


def remove_if_empty(folder: Path) -> None:
    """Remove the folder of a run that failed before it wrote anything."""
    with suppress(OSError):
        folder.rmdir()


def is_inside(path: Path | str, folder: Path | str) -> bool:
    """Return whether a path is inside of a folder after all links are followed. A URL is inside of no folder."""
    if URL.match(str(path)):
        return False
    try:
        return Path(path).resolve().is_relative_to(Path(folder).resolve())
    except (OSError, RuntimeError, ValueError):  # links that form a circle; names that no file can have
        return False


def refuse_links(target: Path, run: Path) -> None:
    """Refuse to write to a file or folder of a run if a link would lead out of the run's folder.

    The run's folder may itself be a link. Links between paths inside of the folder are allowed.

    Args:
        target: a file or folder in `run`, which need not exist. Links below it are checked too.

    Raises:
        UserError: `target`, or a link below it, leads out of `run`.
    """
    paths = [Path(folder, name) for folder, folders, files in os.walk(target) for name in (*folders, *files)]
    for path in [target, *(path for path in paths if path.is_symlink())]:
        is_replaced = path != target and not path.is_dir() and REPLACED.fullmatch(path.relative_to(run).as_posix())
        if not is_replaced and not is_inside(path, run):
            raise UserError(
                f"{path} leads to {os.path.realpath(path)}, which is not in the run's folder {run}; a run does not "
                "write through such a link: replace the link by what it leads to"
            )
