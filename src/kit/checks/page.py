"""Describe the result of a check as one self-contained HTML page, with pictures."""

import io
from functools import cache
from html import escape
from pathlib import Path

from PIL import Image as Pillow
from PIL import ImageDraw

from kit.checks.report import by_kind, common_advice, location, shorten, summary, write
from kit.checks.survey import Survey
from kit.data.decode import load_pixels, upright, upright_size
from kit.ground.faults import Fault
from kit.ground.files import open_image
from kit.ground.html import html_page, image_element

PICTURES = 6  # the number of pictures for each kind
LINES = 200  # the number of lines for each kind; the JSON has all
SIDE = 200  # pixels of a picture's longer side
FRAME = "#ff2d20"  # the colour of a box
Box = tuple[float, float, float, float]


def save_html(survey: Survey, file: Path) -> None:
    write(file, html(survey))


def html(survey: Survey) -> str:
    """Return the page."""
    title = f"Check of {Path(survey.root).resolve().name}" if survey.root.strip("./") else "Check of the data"
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
    verdict = "" if groups else " class=good"
    return f"<p{verdict}>{escape(summary(survey))}</p>{f'<table>{rows}</table>' if rows else ''}{sections}"


def _section(faults: list[Fault], root: str) -> str:
    advice = common_advice(faults)
    message = faults[0].message if len({fault.message for fault in faults}) == 1 else advice.removeprefix("; ")
    pictured = [(fault, pictures) for fault in faults[: 4 * PICTURES] if (pictures := _pictures(fault))][:PICTURES]
    figures = "".join(
        f"<figure><div>{''.join(pictures)}</div>"
        f"<figcaption>{_details(fault, message, advice, root)}</figcaption></figure>"
        for fault, pictures in pictured
    )
    shown = {id(fault) for fault, _ in pictured}
    rest = [
        details for fault in faults if id(fault) not in shown and (details := _details(fault, message, advice, root))
    ]
    listed = "".join(f"<li>{details}</li>" for details in rest[:LINES])
    more = f"<li class=soft>and {len(rest) - LINES:,} more</li>" if len(rest) > LINES else ""
    listing = f"<ul>{listed}{more}</ul>" if rest else ""
    if figures and rest:
        listing = f"<details><summary>{len(rest):,} more</summary>{listing}</details>"
    return (
        f"<section id='{escape(faults[0].kind)}'><div class=head><h2>{escape(faults[0].kind)}</h2>"
        f"<span class={faults[0].severity}>{faults[0].severity}</span><span class=soft>{len(faults):,}</span></div>"
        f"<p>{escape(shorten(message, root))}</p><div class=pictures>{figures}</div>{listing}</section>"
    )


def _details(fault: Fault, common: str, advice: str, root: str) -> str:
    """Return the file and the message of a fault, without what its section says about all faults."""
    message = "" if fault.message == common else shorten(fault.message.removesuffix(advice), root)
    parts = [f"<code>{escape(location(fault, root))}</code>" if fault.file else "", escape(message)]
    return " ".join(part for part in parts if part)


def _pictures(fault: Fault) -> list[str]:
    """Return the image of a fault and the image that it is compared with, without those that cannot be shown."""
    thumbnails = [thumbnail(fault.image or fault.file, fault.box), thumbnail(fault.other)]
    return [image_element(content) for content in thumbnails if content]


@cache
def thumbnail(file: str, box: Box | None = None) -> bytes:
    """Return the content of a small JPEG, with the box drawn into it; empty if the file cannot be shown."""
    try:
        with open_image(Path(file)) as opened:
            size = upright_size(opened)
            shown = upright(load_pixels(opened, Path(file), ("RGB", (SIDE, SIDE)))[0])
            shown.thumbnail((SIDE, SIDE))
            small, stream = shown.convert("RGB"), io.BytesIO()
            if box is not None:
                _draw_box(small, box, size)
            small.save(stream, "JPEG", quality=80)
    except Exception:  # the file may be on the page because it is broken
        return b""
    return stream.getvalue()


def _draw_box(picture: Pillow.Image, box: Box, size: tuple[int, int]) -> None:
    """Draw a frame around the box, clipped to the picture.

    Args:
        size: height and width of the image in whose pixels the box is given.
    """
    limits = picture.width - 1, picture.height - 1
    factors = picture.width / size[1], picture.height / size[0]
    xs, ys = (
        sorted(min(max(value * factors[axis], 0), limits[axis]) for value in (box[axis], box[axis + 2]))
        for axis in (0, 1)
    )
    ImageDraw.Draw(picture).rectangle((xs[0], ys[0], xs[1], ys[1]), outline=FRAME, width=2)
