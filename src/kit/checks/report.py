"""Describe the result of a check: on the terminal, at the start of a run, and as JSON."""

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from kit.checks.survey import Survey
from kit.ground.faults import Fault
from kit.ground.files import replacing
from kit.ground.terminal import escape

FEW = 3  # the number of files that are named for each kind
WORST = 5  # the number of kinds that are named at the start of a run
JSON_KEYS = ("kind", "severity", "file", "line", "message")


def full_text(survey: Survey) -> str:
    """Return a text about all kinds of faults, the worst first, with a few files of each."""
    counts = ", ".join(f"{number:,} {split}" for split, number in survey.counts.items())
    where = f" of {survey.root}" if survey.root else ""
    lines = [f"{sum(survey.counts.values()):,} images{where} ({counts}) checked in {survey.seconds:.1f} s", ""]
    for faults in by_kind(survey):
        lines += _kind_lines(faults, survey.root)
    lines += ["", summary(survey)]
    return "\n".join(lines + survey.notes)


def brief_text(survey: Survey, command: str) -> str:
    """Return a line for each of the worst kinds of faults, and the command that shows all; "" if there are none."""
    groups = by_kind(survey)
    if not groups:
        return ""
    lines = [_headline(faults) + _describe(faults[0], survey.root) for faults in groups[:WORST]]
    return "\n".join([*lines, f"{summary(survey)}: {command}", *survey.notes])


def by_kind(survey: Survey) -> list[list[Fault]]:
    """Return the faults of each kind, the worst kind first."""
    return [list(faults) for _, faults in groupby(survey.faults, key=lambda fault: (fault.severity, fault.kind))]


def summary(survey: Survey) -> str:
    """Return the number of errors and warnings, as `2 errors and 1 warning`."""
    if not survey.faults:
        return "nothing is wrong"
    counts = {"error": survey.errors, "warning": len(survey.faults) - survey.errors}
    return " and ".join(f"{number:,} {severity}{'s' * (number != 1)}" for severity, number in counts.items())


def common_advice(faults: Sequence[Fault]) -> str:
    """Return the advice at the end of the messages, as `; remove one of them`, if it is the same for all."""
    advice = {fault.message.rpartition("; ")[2] for fault in faults if "; " in fault.message}
    return f"; {advice.pop()}" if len(advice) == 1 and all("; " in fault.message for fault in faults) else ""


def shorten(path: str, root: str) -> str:
    """Return a path, or a sentence with paths, as one line and without the root of the data."""
    return escape(path.replace(root.rstrip("/") + "/", "") if root.strip("./") else path)


def location(fault: Fault, root: str) -> str:
    """Return the file and line of a fault, as `labels.csv:7`."""
    file = shorten(fault.file, root)
    return file if fault.line is None else f"{file}:{fault.line}"


def save_json(survey: Survey, file: Path) -> None:
    """Write all faults as a list of dicts with `JSON_KEYS`."""
    faults = [{key: value for key, value in fault._asdict().items() if key in JSON_KEYS} for fault in survey.faults]
    write(file, json.dumps(faults, indent=1, ensure_ascii=False) + "\n")


def write(file: Path, content: str) -> None:
    """Write a text file, which is whole or absent."""
    with replacing(file) as part:
        part.write_text(content, encoding="utf-8")


def _kind_lines(faults: list[Fault], root: str) -> list[str]:
    """Return lines about a kind: a headline and a few faults, or their files if all have the same message."""
    if len(faults) == 1:
        return [_headline(faults) + _describe(faults[0], root)]
    more = [f"and {len(faults) - FEW:,} more"] if len(faults) > FEW else []
    files = [location(fault, root) for fault in faults[:FEW]]
    if len({fault.message for fault in faults}) == 1 and files[0]:
        return [_headline(faults) + escape(faults[0].message), "    " + " ".join([", ".join(files), *more])]
    advice = common_advice(faults)
    lines = [_describe(fault, root, advice) for fault in faults[:FEW]]
    return [_headline(faults) + escape(advice.removeprefix("; ")), *(f"    {line}" for line in [*lines, *more])]


def _describe(fault: Fault, root: str, advice: str = "") -> str:
    """Return the file and the message of a fault, without the advice that a headline gives."""
    return ": ".join(filter(None, (location(fault, root), shorten(fault.message.removesuffix(advice), root))))


def _headline(faults: list[Fault]) -> str:
    return f"{faults[0].severity:<8} {faults[0].kind:<18}{len(faults):>6,}  "
