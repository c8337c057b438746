"""Build HTML pages that need no other files: the style and the pictures are in the page."""

import base64
from html import escape

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1c2128; --soft: #656d76; --line: #d8dee4; --card: #f6f8fa;
  --error: #c62828; --warning: #a15c00; --good: #1a7f37; --first: #1f6feb; --second: #d97706 }
@media (prefers-color-scheme: dark) { :root { --ground: #14181d; --ink: #e6edf3; --soft: #9aa4ae; --line: #2f363d;
  --card: #1c2128; --error: #ff7b72; --warning: #e3b341; --good: #57ab5a; --first: #58a6ff; --second: #e3b341 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 80px }
h1 { font-size: 26px; margin: 0 0 4px } h2 { font-size: 17px; margin: 0; font-weight: 600 }
p { margin: 0 } .soft { color: var(--soft) } code, summary { font-size: 13px }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, monospace; overflow-wrap: anywhere }
pre { font-size: 13px; white-space: pre-wrap; background: var(--card); padding: 12px; border-radius: 8px }
table { border-collapse: collapse; margin: 28px 0 8px; min-width: 420px }
td { padding: 5px 20px 5px 0; border-bottom: 1px solid var(--line) } td.number { text-align: right }
table a { color: inherit } section { margin-top: 36px; padding-top: 20px; border-top: 1px solid var(--line) }
.head { display: flex; gap: 12px; align-items: baseline; flex-wrap: wrap }
.error, .warning { font-weight: 600; font-size: 13px } .error { color: var(--error) } .warning { color: var(--warning) }
.good { color: var(--good) }
.verdict { white-space: pre-line; margin-top: 20px; padding: 12px 16px; background: var(--card); border-radius: 8px }
.charts { display: flex; flex-wrap: wrap; gap: 24px; margin-top: 12px } svg text { fill: var(--soft); font-size: 12px }
.wide { max-width: 100%; max-height: none; margin-top: 12px }
.pictures { display: flex; flex-wrap: wrap; gap: 14px; margin: 16px 0 8px }
figure { margin: 0; padding: 10px; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  max-width: 460px }
figure div { display: flex; gap: 8px }
figure img { max-height: 160px; max-width: 208px; min-height: 96px }
img { display: block; border-radius: 4px; background: #8884 }
figcaption { margin-top: 8px; font-size: 13px; color: var(--soft); max-width: 424px }
figcaption code { color: var(--ink) }
ul { margin: 10px 0 0; padding-left: 20px } li { margin: 3px 0; font-size: 14px }
summary { cursor: pointer; color: var(--soft) }
"""


def html_page(title: str, body: str) -> str:
    """Return an HTML page. The title is plain text; the body is HTML."""
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(title)}</title>"
        f"<meta name=viewport content='width=device-width'><style>{STYLE}</style></head><body><main>"
        f"<h1>{escape(title)}</h1>{body}</main></body></html>\n"
    )


def image_element(content: bytes, css_class: str = "") -> str:
    """Return an HTML image element that contains the image itself. content: the bytes of a PNG or JPEG file."""
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"<img class='{css_class}' src='data:image/{kind};base64,{base64.b64encode(content).decode()}' alt=''>"
