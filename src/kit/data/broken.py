"""Find files that cannot be decoded before training starts, so that they are left out of every split."""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import PIL
from tqdm import tqdm

from kit.data.samples import Files
from kit.ground.errors import BrokenFiles, UnreachableFiles
from kit.ground.files import replacing
from kit.ground.threads import map_in_threads

MAX_BROKEN = 0.05  # the largest share of a split that may be left out; one file always may be
NAMED = 10  # the number of files that a message names
SECONDS = 1.0  # the result of a search that takes longer is stored


class Damage(NamedTuple):
    """The damaged files of a split. Both dicts map a file's path to what is wrong with it.

    broken: files that cannot be decoded.
    truncated: JPEGs that lack their last bytes, and are read without them.
    """

    broken: dict[str, str]
    truncated: dict[str, str]


def find_damage(samples: Files, folder: Path, description: str) -> Damage:
    """Decode every file once, to find those that are damaged.

    This takes a third to a half of the time of reading the samples. If it takes more than a second, the result is
    stored in a file in `folder`, and used until one of the files changes.

    Args:
        description: a description of the files, for the progress bar.

    Raises:
        UnreachableFiles: the system cannot read a file.
    """
    file = folder / f"{_fingerprint(samples)}.damage.json"
    if (stored := _read_stored(file)) is not None:
        return stored
    started, damage = time.monotonic(), Damage({}, {})
    with tqdm(total=len(samples), desc=f"checking {description}", disable=not sys.stderr.isatty(), leave=False) as bar:
        for index, (is_broken, problem) in enumerate(map_in_threads(_checker(samples), range(len(samples)))):
            if problem:
                (damage.broken if is_broken else damage.truncated)[samples.file(index)] = problem
            bar.update()
    if time.monotonic() - started > SECONDS:
        try:
            with replacing(file) as part:
                part.write_text(json.dumps(damage._asdict()), encoding="utf-8")
        except OSError:  # the next run searches again
            pass
    return damage


def stop_if_many(split: str, broken: Mapping[str, str], total: int) -> None:
    """Raise an error if too many of a split's `total` images are broken.

    Raises:
        BrokenFiles: all images are broken, or more than one and more than `MAX_BROKEN` of them.
    """
    if len(broken) == total or len(broken) > max(1, MAX_BROKEN * total):
        limit = "" if len(broken) == total else f", more than {MAX_BROKEN:.0%}"
        raise BrokenFiles(
            f"{len(broken):,} of {total:,} images of {split} cannot be decoded{limit}; restore or remove "
            f"them:{_listed(broken)}"
        )


def warnings_about(split: str, damage: Damage, total: int) -> list[str]:
    """Return a message about the files that are left out, and one about those that lack their last bytes."""
    kinds = (
        (damage.broken, "cannot be decoded and are left out"),
        (damage.truncated, "lack their last bytes and are read without them"),
    )
    return [f"{split}: {len(files):,} of {total:,} images {what}:{_listed(files)}" for files, what in kinds if files]


def summary(left_out: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a line of the report for each split from which files are left out."""
    lines = []
    for split, files in left_out.items():
        if files:
            more = f" and {len(files) - NAMED:,} more" if len(files) > NAMED else ""
            names = ", ".join(list(files)[:NAMED])
            lines.append(f"left out of {split}, because they cannot be decoded: {len(files):,} ({names}{more})")
    return lines


def _listed(files: Mapping[str, str]) -> str:
    lines = [f"{file}: {why}" for file, why in list(files.items())[:NAMED]]
    more = [f"and {len(files) - NAMED:,} more"] if len(files) > NAMED else []
    return "".join(f"\n  {line}" for line in [*lines, *more])


def _checker(samples: Files) -> Callable[[int], tuple[bool, str]]:
    """Return a function that maps a sample's index to whether its file is broken, and to what is wrong with it."""

    def check(index: int) -> tuple[bool, str]:
        try:
            return False, "lacks its last bytes" if samples.is_truncated(index) else ""
        except UnreachableFiles:
            raise
        except BrokenFiles as error:
            return True, str(error).removeprefix(f"{samples.file(index)}: ")

    return check


def _read_stored(file: Path) -> Damage | None:
    """Return the damage that is stored in a file, or None if there is no such file or its content is not valid."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        parts = [content[name] for name in Damage._fields]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(isinstance(part, dict) and all(isinstance(problem, str) for problem in part.values()) for part in parts):
        return None
    return Damage(*parts)


def _fingerprint(samples: Files) -> str:
    digest = hashlib.sha256(f"{PIL.__version__} {type(samples).__qualname__}".encode())
    for path in samples.sources:
        try:
            stat = path.stat()
            state = f"{stat.st_size}|{stat.st_mtime_ns}"
        except OSError as error:  # decoding the file raises an error that says what is wrong
            state = str(error.errno)
        digest.update(f"{path.absolute()}|{state}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]
