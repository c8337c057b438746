"""Describe the result of a check as one self-contained HTML page, with pictures."""

import base64
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

PICTURES = 6  # the number of pictures for each kind
LINES = 200  # the number of lines for each kind; the JSON has all
SIDE = 200  # pixels of a picture's longer side
FRAME = "#ff2d20"  # the colour of a box
Box = tuple[float, float, float, float]

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1c2128; --soft: #656d76; --line: #d8dee4; --card: #f6f8fa;
  --error: #c62828; --warning: #a15c00; --good: #1a7f37 }
@media (prefers-color-scheme: dark) { :root { --ground: #14181d; --ink: #e6edf3; --soft: #9aa4ae; --line: #2f363d;
  --card: #1c2128; --error: #ff7b72; --warning: #e3b341; --good: #57ab5a } }
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 80px }
h1 { font-size: 26px; margin: 0 0 4px } h2 { font-size: 17px; margin: 0; font-weight: 600 }
p { margin: 0 } .soft { color: var(--soft) } code, summary { font-size: 13px }
code { font-family: ui-monospace, SFMono-Regular, Menlo, monospace; overflow-wrap: anywhere }
table { border-collapse: collapse; margin: 28px 0 8px; min-width: 420px }
td { padding: 5px 20px 5px 0; border-bottom: 1px solid var(--line) } td.number { text-align: right }
table a { color: inherit } section { margin-top: 36px; padding-top: 20px; border-top: 1px solid var(--line) }
.head { display: flex; gap: 12px; align-items: baseline; flex-wrap: wrap }
.error, .warning { font-weight: 600; font-size: 13px } .error { color: var(--error) } .warning { color: var(--warning) }
.good { color: var(--good) }
.pictures { display: flex; flex-wrap: wrap; gap: 14px; margin: 16px 0 8px }
figure { margin: 0; padding: 10px; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  max-width: 460px }
figure div { display: flex; gap: 8px }
img { display: block; max-height: 160px; max-width: 208px; min-height: 96px; border-radius: 4px; background: #8884 }
figcaption { margin-top: 8px; font-size: 13px; color: var(--soft); max-width: 424px }
figcaption code { color: var(--ink) }
ul { margin: 10px 0 0; padding-left: 20px } li { margin: 3px 0; font-size: 14px }
summary { cursor: pointer; color: var(--soft) }
"""


def save_html(survey: Survey, file: Path) -> None:
    write(file, html(survey))


def html(survey: Survey) -> str:
    """Return the page."""
    groups = by_kind(survey)
    counts = ", ".join(f"{number:,} {split}" for split, number in survey.counts.items())
    title = f"Check of {Path(survey.root).resolve().name}" if survey.root.strip("./") else "Check of the data"
    rows = "".join(
        f"<tr><td class={group[0].severity}>{group[0].severity}</td>"
        f"<td><a href='#{escape(group[0].kind)}'>{escape(group[0].kind)}</a></td>"
        f"<td class=number>{len(group):,}</td></tr>"
        for group in groups
    )
    verdict = "" if groups else " class=good"
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(title)}</title>"
        f"<meta name=viewport content='width=device-width'><style>{STYLE}</style></head><body><main>"
        f"<h1>{escape(title)}</h1><p{verdict}>{escape(summary(survey))}</p>"
        f"<p class=soft>{sum(survey.counts.values()):,} images ({escape(counts)}), {survey.seconds:.1f} s"
        f"{''.join(f'<br>{escape(note)}' for note in survey.notes)}</p>"
        f"{f'<table>{rows}</table>' if rows else ''}"
        f"{''.join(_section(group, survey.root) for group in groups)}</main></body></html>\n"
    )


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
    return [f"<img src='data:image/jpeg;base64,{data}' alt=''>" for data in thumbnails if data]


@cache
def thumbnail(file: str, box: Box | None = None) -> str:
    """Return a small JPEG in Base64, with the box drawn into it; empty if the file cannot be shown."""
    try:
        with open_image(Path(file)) as image:
            size = upright_size(image)
            shown = upright(load_pixels(image, Path(file), ("RGB", (SIDE, SIDE)))[0])
            shown.thumbnail((SIDE, SIDE))
            picture, stream = shown.convert("RGB"), io.BytesIO()
            if box is not None:
                _draw_box(picture, box, size)
            picture.save(stream, "JPEG", quality=80)
    except Exception:  # the file may be on the page because it is broken
        return ""
    return base64.b64encode(stream.getvalue()).decode()


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
