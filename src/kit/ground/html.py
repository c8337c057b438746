"""Render HTML pages that need no other files: the style and the pictures are in the page."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def data_url(content: bytes) -> str:
    """Return a URL that contains a whole image. content: the bytes of a PNG or JPEG file."""
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


# The name of a template is its path below `kit`. All pages extend `ground/page.html`.
PAGES = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
PAGES.loader = FileSystemLoader(Path(__file__).parent.parent)
PAGES.filters["data_url"] = data_url
