"""Describe the result of a check: on the terminal, at the start of a run, as JSON and as an HTML page with pictures."""

import io
import json
import re
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from kit.checks.survey import Survey
from kit.data.decode import turn_upright, upright_size
from kit.ground.faults import Fault
from kit.ground.files import open_image, write_text
from kit.ground.html import PAGES
from kit.ground.terminal import escape

FILES_PER_KIND = 3  # the number of files that the full text names for each kind
MAX_KINDS = 5  # the largest number of kinds in the brief text
JSON_KEYS = ("kind", "severity", "file", "line", "message")


def full_text(survey: Survey) -> str:
    """Return a text that lists all kinds of faults, the worst first, with a few files for each kind."""
    source = f" of {survey.root}" if survey.root else ""
    lines = [survey.description] if survey.description else []
    lines += [f"{sum(survey.counts.values()):,} images{source} checked in {survey.seconds:.1f} s", ""]
    for faults in by_kind(survey):
        lines.append(_first_line(faults, survey.root))
        lines += [f"{'':35}{describe(fault, survey.root)}" for fault in faults[1:FILES_PER_KIND]]
        if len(faults) > FILES_PER_KIND:
            lines.append(f"{'':35}and {len(faults) - FILES_PER_KIND:,} more")
    return "\n".join([*lines, "", summary(survey), *survey.notes])


def brief_text(survey: Survey, command: str) -> str:
    """Return a line for each of the worst kinds, and the command that shows all faults; "" if there are no faults."""
    if not survey.faults:
        return ""
    lines = [_first_line(faults, survey.root) for faults in by_kind(survey)[:MAX_KINDS]]
    return "\n".join([*lines, f"{summary(survey)}: {command}", *survey.notes])


def by_kind(survey: Survey) -> list[list[Fault]]:
    """Return the faults of each kind, the worst kind first."""
    return [list(faults) for _, faults in groupby(survey.faults, key=lambda fault: (fault.severity, fault.kind))]


def summary(survey: Survey) -> str:
    """Return the number of faults in words, such as `2 errors and 1 warning`."""
    if not survey.faults:
        return "nothing is wrong"
    counts = {"error": survey.errors, "warning": len(survey.faults) - survey.errors}
    return " and ".join(f"{number:,} {severity}{'s' * (number != 1)}" for severity, number in counts.items())


def shorten(text: str, root: str) -> str:
    """Return a text in one line, with paths relative to the root of the data.

    Paths do not change if the root is `.`, `..` or `/`.
    """
    # The root `data` may also be in other paths, such as `/home/data/1.png`.
    pattern = rf"(?<![\w./-]){re.escape(root.rstrip('/'))}/"
    return escape(re.sub(pattern, "", text) if root.strip("./") else text)


def location(fault: Fault, root: str) -> str:
    """Return the file and line of a fault, such as `labels.csv:7`."""
    return shorten(fault.file, root) + ("" if fault.line is None else f":{fault.line}")


def save_json(survey: Survey, file: Path) -> None:
    """Write all faults as a list of dicts with `JSON_KEYS`."""
    faults = [{key: getattr(fault, key) for key in JSON_KEYS} for fault in survey.faults]
    write_text(file, json.dumps(faults, indent=1, ensure_ascii=False) + "\n")


def _first_line(faults: list[Fault], root: str) -> str:
    """Return the severity, the kind and the number of faults of one kind, and the first of them."""
    return f"{faults[0].severity:<8} {faults[0].kind:<18}{len(faults):>6,}  {describe(faults[0], root)}"


def describe(fault: Fault, root: str) -> str:
    """Return the file, the line and the message of a fault."""
    return ": ".join(filter(None, (location(fault, root), shorten(fault.message, root))))


SIDE = 200  # pixels: the longer side of a picture
BOX_COLOUR = "#ff2d20"
Box = tuple[float, float, float, float]  # XYXY in pixels, see `Fault.box`


def survey_page(survey: Survey) -> str:
    """Return the result of a check as an HTML page."""
    title = f"Check of {survey.root}" if survey.root else "Check of the data"
    return PAGES.get_template("checks/page.html").render(title=title, **faults_values(survey))


def faults_values(survey: Survey) -> dict[str, Any]:
    """Return the variables of the template `checks/faults.html`."""
    functions = {"location": location, "shorten": shorten, "pictures": pictures}
    return {"survey": survey, "summary": summary(survey), "kinds": by_kind(survey), **functions}


def pictures(fault: Fault) -> list[bytes]:
    """Return JPEGs of the image of a fault and of the image that it is compared with, if they can be decoded."""
    return list(filter(None, (thumbnail(fault.image or fault.file, fault.box), thumbnail(fault.other))))


@cache
def thumbnail(file: str, box: Box | None = None) -> bytes:
    """Return a small JPEG of an image file, with a box drawn into it; empty if the file cannot be decoded."""
    try:
        with open_image(Path(file)) as opened:
            size = upright_size(opened)
            opened.draft("RGB", (SIDE, SIDE))
            small = turn_upright(opened)
            small.thumbnail((SIDE, SIDE))
            picture, stream = small.convert("RGB"), io.BytesIO()
            if box is not None:
                _draw_box(picture, box, size)
            picture.save(stream, "JPEG", quality=80)
    except Exception:  # the file may be on the page because it is broken
        return b""
    return stream.getvalue()


def _draw_box(picture: Pillow.Image, box: Box, size: tuple[int, int]) -> None:
    """Draw a box, clipped to the picture. size: height and width of the original image, which the box refers to."""
    factors = np.divide(picture.size, size[::-1])  # x and y
    corners = (np.reshape(box, (2, 2)) * factors).clip(0, np.subtract(picture.size, 1))
    corners.sort(axis=0)  # a broken annotation may have its right edge before its left one
    ImageDraw.Draw(picture).rectangle(corners.ravel().tolist(), outline=BOX_COLOUR, width=2)
