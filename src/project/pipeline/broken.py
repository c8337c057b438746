"""Files that cannot be decoded: which they are is decided before training, and they are left out of every split."""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import PIL
from tqdm import tqdm

from project import BrokenFiles, UnreachableFiles
from project.pipeline.samples import Files
from project.pipeline.threads import in_threads
from project.replacing import replacing

MOST_BROKEN = 0.05  # of a split, for a run to go on without them; a single file is always allowed
NAMED = 10  # files named in a message
SECONDS = 1.0  # that looking must take for its result to be kept


class Look(NamedTuple):
    """What decoding every file of a split has told. Both map a file's path to the reason.

    broken: files that cannot be decoded.
    cut: JPEGs that lack their last bytes, and are read without them.
    """

    broken: dict[str, str]
    cut: dict[str, str]


def look_at(samples: Files, folder: Path, what: str) -> Look:
    """Decode every file once, to see whether it can be decoded.

    That takes a third to a half of the time that reading them does. If it takes more than a second, the result is kept
    in a file of `folder`, and is used as long as no file has changed.

    Raises:
        UnreachableFiles: the system cannot read a file.
    """
    kept = folder / f"{_fingerprint(samples)}.look.json"
    if (found := _kept(kept)) is not None:
        return found
    started, found = time.monotonic(), Look({}, {})
    with tqdm(total=len(samples), desc=f"looking at {what}", disable=not sys.stderr.isatty(), leave=False) as bar:
        for place, (is_broken, why) in enumerate(in_threads(_looker(samples), range(len(samples)))):
            if why:
                (found.broken if is_broken else found.cut)[samples.file(place)] = why
            bar.update()
    if time.monotonic() - started > SECONDS:
        try:
            with replacing(kept) as part:
                part.write_text(json.dumps(found._asdict()), encoding="utf-8")
        except OSError:  # no place for it: the next run looks again
            pass
    return found


def stop_if_many(split: str, broken: Mapping[str, str], total: int) -> None:
    """
    Raises:
        BrokenFiles: more than `MOST_BROKEN` of a split's `total` images are broken, or all.
    """
    if len(broken) == total or len(broken) > max(1, MOST_BROKEN * total):
        limit = "" if len(broken) == total else f", more than {MOST_BROKEN:.0%}"
        raise BrokenFiles(
            f"{len(broken):,} of {total:,} images of {split} cannot be decoded{limit}; restore or remove "
            f"them:{_listed(broken)}"
        )


def warnings_about(split: str, look: Look, total: int) -> list[str]:
    """A message about the files that are left out, and one about those that lack their last bytes."""
    kinds = ((look.broken, "left out, since they cannot be decoded"), (look.cut, "cut off, and read without their end"))
    return [f"{split}: {len(files):,} of {total:,} images {what}:{_listed(files)}" for files, what in kinds if files]


def summary(left_out: Mapping[str, Mapping[str, str]]) -> list[str]:
    """For a report: a line for each split that files were left out of."""
    lines = []
    for split, files in left_out.items():
        if files:
            more = f" and {len(files) - NAMED:,} more" if len(files) > NAMED else ""
            names = ", ".join(list(files)[:NAMED])
            lines.append(f"left out of {split}, since it cannot be decoded: {len(files):,} ({names}{more})")
    return lines


def _listed(files: Mapping[str, str]) -> str:
    lines = [f"{file}: {why}" for file, why in list(files.items())[:NAMED]]
    more = [f"and {len(files) - NAMED:,} more"] if len(files) > NAMED else []
    return "".join(f"\n  {line}" for line in [*lines, *more])


def _looker(samples: Files) -> Callable[[int], tuple[bool, str]]:
    """A function of a sample's place: whether its file is broken, and what is wrong with it."""

    def look(place: int) -> tuple[bool, str]:
        try:
            return False, "lacks its last bytes" if samples.look(place) else ""
        except UnreachableFiles:
            raise
        except BrokenFiles as error:
            return True, str(error).removeprefix(f"{samples.file(place)}: ")

    return look


def _kept(file: Path) -> Look | None:
    """None where there is nothing, or nothing that can be understood."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        parts = [content[name] for name in Look._fields]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(isinstance(part, dict) and all(isinstance(why, str) for why in part.values()) for part in parts):
        return None
    return Look(*parts)


def _fingerprint(samples: Files) -> str:
    digest = hashlib.sha256(f"{PIL.__version__} {type(samples).__qualname__}".encode())
    for path in samples.sources:
        try:
            stat = path.stat()
            state = f"{stat.st_size}|{stat.st_mtime_ns}"
        except OSError as error:  # decoding says it
            state = str(error.errno)
        digest.update(f"{path.absolute()}|{state}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]
