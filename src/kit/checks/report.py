"""A survey in words: on the terminal, before a run, and as JSON."""

import json
import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from kit.checks.survey import Survey
from kit.ground.errors import UserError
from kit.ground.faults import Fault
from kit.ground.files import replacing
from kit.ground.terminal import visible

FEW = 3  # files named of each kind
WORST = 5  # kinds named before a run
SAVED = ("kind", "severity", "file", "line", "message")


def text(survey: Survey) -> str:
    """All kinds, the worst first, a few files of each."""
    counts = ", ".join(f"{number:,} {split}" for split, number in survey.counts.items())
    where = f" of {survey.root}" if survey.root else ""
    lines = [f"{sum(survey.counts.values()):,} images{where} ({counts}) checked in {survey.seconds:.1f} s", ""]
    for faults in kinds(survey):
        lines += _kind(faults, survey.root)
    lines += ["", summary(survey)]
    return "\n".join(lines + survey.notes)


def brief(survey: Survey, command: str) -> str:
    """Before a run: a line for each of the worst kinds, and how to see all; nothing where nothing is wrong."""
    groups = kinds(survey)
    if not groups:
        return ""
    lines = [_headline(faults) + _first(faults, survey.root) for faults in groups[:WORST]]
    return "\n".join([*lines, f"{summary(survey)}: {command}", *survey.notes])


def kinds(survey: Survey) -> list[list[Fault]]:
    """The faults of each kind, the worst kind first."""
    return [list(faults) for _, faults in groupby(survey.faults, key=lambda fault: (fault.severity, fault.kind))]


def summary(survey: Survey) -> str:
    """`2 errors and 1 warning`."""
    warnings = len(survey.faults) - survey.errors
    if not survey.faults:
        return "nothing is wrong"
    return f"{_count(survey.errors, 'error')} and {_count(warnings, 'warning')}"


def common_advice(faults: Sequence[Fault]) -> str:
    """What to do, `; remove one of them`, where it is the same for all."""
    advice = {fault.message.rpartition("; ")[2] for fault in faults if "; " in fault.message}
    return f"; {advice.pop()}" if len(advice) == 1 and all("; " in fault.message for fault in faults) else ""


def short(path: str, root: str) -> str:
    """Return a path, or a sentence with paths, as one line and without the root of the data."""
    return visible(path.replace(root.rstrip("/") + "/", "") if root.strip("./") else path)


def place(fault: Fault, root: str) -> str:
    """`labels.csv:7`"""
    file = short(fault.file, root)
    return file if fault.line is None else f"{file}:{fault.line}"


def save(survey: Survey, file: Path) -> None:
    """All faults as a list of dicts with the keys `SAVED`."""
    faults = [{key: getattr(fault, key) for key in SAVED} for fault in survey.faults]
    write(file, json.dumps(faults, indent=1, ensure_ascii=False) + "\n")


def check_place(file: Path) -> None:
    """
    Raises:
        UserError: no file can be written there.
    """
    above = next(folder for folder in file.absolute().parents if folder.exists())
    if file.is_dir() or not above.is_dir() or not os.access(above, os.W_OK):
        why = "it is a folder" if file.is_dir() else f"{above} is no folder that can be written to"
        raise UserError(f"no report can be written to {file}: {why}; give a file's name")


def write(file: Path, content: str) -> None:
    with replacing(file) as part:
        part.write_text(content, encoding="utf-8")


def _kind(faults: list[Fault], root: str) -> list[str]:
    """A line about the kind, and one each about a few of its faults; one for all that are said in the same words."""
    if len(faults) == 1:
        return [_headline(faults) + _first(faults, root)]
    files = [place(fault, root) for fault in faults]
    more = len(faults) - FEW
    if len({fault.message for fault in faults}) == 1 and files[0]:
        listed = ", ".join(files[:FEW]) + (f" and {more:,} more" if more > 0 else "")
        return [_headline(faults) + visible(faults[0].message), f"    {listed}"]
    advice = common_advice(faults)
    lines = [_headline(faults) + visible(advice.removeprefix("; "))]
    for file, fault in zip(files[:FEW], faults, strict=False):
        message = short(fault.message.removesuffix(advice), root)
        lines.append(f"    {file}: {message}" if file else f"    {message}")
    return lines + ([f"    and {more:,} more"] if more > 0 else [])


def _first(faults: list[Fault], root: str) -> str:
    return ": ".join(part for part in (place(faults[0], root), short(faults[0].message, root)) if part)


def _headline(faults: list[Fault]) -> str:
    return f"{faults[0].severity:<8} {faults[0].kind:<18}{len(faults):>6,}  "


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
