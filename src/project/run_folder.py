"""The folder of a run, and the rule for its files: what a run writes or deletes lies in its own folder."""

import os
import re
from pathlib import Path

from project import UserError

# What Lightning opens with fsspec instead of as a path: `file:///etc`, `simplecache::s3://bucket`.
URL = re.compile(r"[A-Za-z][\w+.-]+:(/|:)")
# A link in one of these places is read, or replaced by a new file. Nothing is written through it.
REPLACED = re.compile(r"(config\.yaml|results\.json|checkpoints/[^/]+\.ckpt)")


def next_version(folder: Path) -> Path:
    """Return `folder/version_N`, where N is one more than the highest that is there, or 0."""
    names = [path.name.removeprefix("version_") for path in folder.glob("version_*") if path.is_dir()]
    return folder / f"version_{max((int(name) + 1 for name in names if name.isdecimal()), default=0)}"


def lies_in(path: Path | str, folder: Path | str) -> bool:
    """Return whether a path lies in a folder when all links are followed. A URL lies in no folder."""
    if URL.match(str(path)):
        return False
    try:
        return Path(path).resolve().is_relative_to(Path(folder).resolve())
    except (OSError, RuntimeError, ValueError):  # links in a circle; names that no file can have
        return False


def refuse_links(place: Path, run: Path) -> None:
    """Refuse to write to a place in a run's folder if a link would lead the files elsewhere.

    The run's folder may itself be a link. Links from one place of the folder to another are allowed.

    Args:
        place: a file or folder in `run`, which need not exist; what lies below it is looked at, too.

    Raises:
        UserError: `place`, or a link below it, leads out of `run`.
    """
    if not lies_in(place, run):
        raise _leads_out(place, run)
    for folder, folders, files in os.walk(place):
        for path in (Path(folder, name) for name in (*folders, *files)):
            if not path.is_symlink() or lies_in(path, run):
                continue
            if path.is_dir() or not REPLACED.fullmatch(path.relative_to(run).as_posix()):
                raise _leads_out(path, run)


def _leads_out(path: Path, run: Path) -> UserError:
    return UserError(
        f"{path} leads to {os.path.realpath(path)}, which is not in the run's folder {run}: nothing is written through "
        "such a link; put what it links to in its place"
    )
