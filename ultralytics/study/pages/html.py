"""Pages that need nothing else: one HTML file without scripts, readable on a phone and when printed."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Sequence
from html import escape
from pathlib import Path

_STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif;
max-width: 1180px; margin: 1.5em auto; padding: 0 1em; color: #1d1d1f; background: #fff }
h1 { font-size: 1.7em; line-height: 1.2 } h2 { font-size: 1.25em; margin-top: 2em; border-bottom: 1px solid #ddd }
.scroll { overflow-x: auto } table { border-collapse: collapse; margin: .8em 0; font-size: .86em;
font-variant-numeric: tabular-nums } td, th { padding: .25em .55em; border-bottom: 1px solid #e3e3e3; text-align: right;
white-space: nowrap } td:first-child, th:first-child, .text { text-align: left } th { background: #f4f5f7 }
td.text { white-space: normal; min-width: 9em } tr.best td { background: #eef7ee; font-weight: 600 }
td:first-child { white-space: normal; overflow-wrap: break-word; max-width: 13em;
position: sticky; left: 0; background: #fff } li, p, summary, code, td.text, figcaption { overflow-wrap: anywhere }
img { max-width: 100%; height: auto } .tall img { max-width: min(100%, 640px) }
figure { margin: 1em 0; break-inside: avoid }
figcaption { color: #555; font-size: .9em }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(340px, 100%), 1fr)); gap: .8em }
.gallery figure { margin: 0 } .note { color: #555 } .bad { color: #a40000 }
pre { background: #f6f7f9; padding: .7em; overflow-x: auto; font-size: 13px; line-height: 1.4 }
.add { color: #0b6b2c } .del { color: #a40000 } summary { cursor: pointer; margin: .4em 0 }
@media (max-width: 600px) { body { font-size: 15px; margin: .5em auto } td, th { padding: .2em .45em } }
@media print { body { max-width: none; margin: 0 } h2 { break-after: avoid } .scroll { overflow: visible }
table { font-size: .75em } pre { white-space: pre-wrap } details > * { display: block } tr { break-inside: avoid } }
"""
_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".svg": "image/svg+xml"}


def document(title: str, parts: Iterable[str]) -> str:
    """Return a whole page with this title and these parts of its body, which are HTML."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{_STYLE}</style>'
    )
    body = "\n".join([f"<h1>{escape(title)}</h1>", *parts])
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def table_html(rows: Sequence[Sequence[str]], best: Collection[int] = (), text: Collection[int] = ()) -> str:
    """Return a table whose first row is the head; rows in `best` are set off, columns in `text` may wrap.

    `best` counts the rows below the head from 0.
    """
    if not rows:
        return ""
    kinds = [" class=text" if k in text else "" for k in range(len(rows[0]))]
    head = "".join(f"<th{kind}>{escape(cell)}</th>" for kind, cell in zip(kinds, rows[0], strict=True))
    body = []
    for i, row in enumerate(rows[1:]):
        cells = "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        body.append(f"<tr{' class=best' if i in best else ''}>{cells}</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def picture(data: bytes, suffix: str, caption: str = "") -> str:
    """Return a figure that holds its image (PNG, JPEG or SVG) itself."""
    source = f"data:{_TYPES[suffix.lower()]};base64,{base64.b64encode(data).decode()}"
    label = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img alt="{escape(caption)}" src="{source}">{label}</figure>'


def picture_file(file: Path, caption: str = "") -> str:
    """Return a figure of an image file, empty where there is none."""
    return picture(file.read_bytes(), file.suffix, caption) if file.is_file() else ""


def diff_html(lines: Iterable[str]) -> str:
    """Return a unified diff with its added and removed lines coloured."""
    shown = []
    for line in lines:
        kind = {"+": "add", "-": "del"}.get(line[:1], "")
        text = escape(line.rstrip("\n"))
        shown.append(f'<span class="{kind}">{text}</span>' if kind else text)
    return "<pre>" + "\n".join(shown) + "</pre>"


def details(summary: str, body: str, is_open: bool = False) -> str:
    """Return a part that can be folded; `body` is HTML."""
    return f"<details{' open' if is_open else ''}><summary>{escape(summary)}</summary>{body}</details>"
