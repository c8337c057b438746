"""Describe the result of a check as one self-contained HTML page, with pictures."""

import io
from functools import cache
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from kit.checks.report import by_kind, location, shared_text, shorten, summary, unshared_text
from kit.checks.survey import Survey
from kit.data.decode import turn_upright, upright_size
from kit.ground.faults import Fault
from kit.ground.files import open_image
from kit.ground.html import html_page, image_element

FIGURES_PER_KIND = 6  # the number of faults of a kind that are shown with pictures
MAX_LOADED = 24  # the number of faults of a kind whose pictures are loaded, since some may be broken
LINES_PER_KIND = 200  # the number of faults of a kind that are listed without pictures
SIDE = 200  # pixels: the longer side of a picture
BOX_COLOUR = "#ff2d20"
Box = tuple[float, float, float, float]


def survey_page(survey: Survey) -> str:
    """Return the HTML page."""
    has_name = survey.root.strip("./")  # not "", `.`, `..` or `/`
    title = f"Check of {Path(survey.root).resolve().name}" if has_name else "Check of the data"
    counts = ", ".join(f"{number:,} {split}" for split, number in survey.counts.items())
    notes = "".join(f"<br>{escape(note)}" for note in survey.notes)
    images = f"{sum(survey.counts.values()):,} images ({escape(counts)}), {survey.seconds:.1f} s"
    return html_page(title, f"<p class=soft>{images}{notes}</p>{faults_html(survey)}")


def faults_html(survey: Survey) -> str:
    """Return a summary of the faults, a table of their kinds, and a section with pictures for each kind."""
    groups = by_kind(survey)
    rows = "".join(
        f"<tr><td class={group[0].severity}>{group[0].severity}</td>"
        f"<td><a href='#{escape(group[0].kind)}'>{escape(group[0].kind)}</a></td>"
        f"<td class=number>{len(group):,}</td></tr>"
        for group in groups
    )
    sections = "".join(_section(group, survey.root) for group in groups)
    css_class = "" if groups else " class=good"
    return f"<p{css_class}>{escape(summary(survey))}</p>{f'<table>{rows}</table>' if rows else ''}{sections}"


def _section(faults: list[Fault], root: str) -> str:
    shared = shared_text(faults)
    loaded = [(fault, pictures) for fault in faults[:MAX_LOADED] if (pictures := _pictures(fault))]
    pictured = loaded[:FIGURES_PER_KIND]
    figures = "".join(
        f"<figure><div>{''.join(pictures)}</div><figcaption>{_details(fault, shared, root)}</figcaption></figure>"
        for fault, pictures in pictured
    )
    shown = {id(fault) for fault, _ in pictured}
    rest = [details for fault in faults if id(fault) not in shown and (details := _details(fault, shared, root))]
    listed = "".join(f"<li>{details}</li>" for details in rest[:LINES_PER_KIND])
    more = f"<li class=soft>and {len(rest) - LINES_PER_KIND:,} more</li>" if len(rest) > LINES_PER_KIND else ""
    listing = f"<ul>{listed}{more}</ul>" if rest else ""
    if figures and rest:
        listing = f"<details><summary>{len(rest):,} more</summary>{listing}</details>"
    return (
        f"<section id='{escape(faults[0].kind)}'><div class=head><h2>{escape(faults[0].kind)}</h2>"
        f"<span class={faults[0].severity}>{faults[0].severity}</span><span class=soft>{len(faults):,}</span></div>"
        f"<p>{escape(shorten(shared, root))}</p><div class=pictures>{figures}</div>{listing}</section>"
    )


def _details(fault: Fault, shared: str, root: str) -> str:
    """Return the file of a fault, and its message without the text that the faults of its section share."""
    file = f"<code>{escape(location(fault, root))}</code>" if fault.file else ""
    return " ".join(filter(None, (file, escape(unshared_text(fault, shared, root)))))


def _pictures(fault: Fault) -> list[str]:
    """Return elements with the image of a fault and the image that it is compared with, if they can be shown."""
    thumbnails = [thumbnail(fault.image or fault.file, fault.box), thumbnail(fault.other)]
    return [image_element(content) for content in thumbnails if content]


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
