"""Build HTML pages that need no other files: the style and the pictures are in the page."""

import base64
from html import escape
from pathlib import Path

STYLE = Path(__file__).with_name("style.css")


def html_page(title: str, body: str) -> str:
    """Return an HTML page. The title is plain text; the body is HTML."""
    style = STYLE.read_text(encoding="utf-8")
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(title)}</title>"
        f"<meta name=viewport content='width=device-width'><style>{style}</style></head><body><main>"
        f"<h1>{escape(title)}</h1>{body}</main></body></html>\n"
    )


def image_element(content: bytes, css_class: str = "") -> str:
    """Return an HTML image element that contains the image itself. content: the bytes of a PNG or JPEG file."""
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"<img class='{css_class}' src='data:image/{kind};base64,{base64.b64encode(content).decode()}' alt=''>"
