"""Describe the result of a check as one self-contained HTML page, with pictures."""

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from kit.checks.report import by_kind, location, shorten, summary
from kit.checks.survey import Survey
from kit.data.decode import turn_upright, upright_size
from kit.ground.faults import Fault
from kit.ground.files import open_image
from kit.ground.html import PAGES

SIDE = 200  # pixels: the longer side of a picture
BOX_COLOUR = "#ff2d20"
Box = tuple[float, float, float, float]


def survey_page(survey: Survey) -> str:
    """Return the HTML page."""
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
