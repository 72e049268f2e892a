"""The report as one HTML page that needs nothing else: no network, no other file, no script."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from ultralytics.data.doctor.finding import Finding
from ultralytics.data.doctor.plots import charts, thumbnail
from ultralytics.data.doctor.survey import Survey

PICTURES = 6  # of a finding
LINES = 20  # of a finding's places

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .25em .8em; border-bottom: 1px solid #ddd;
text-align: left; vertical-align: top } th { background: #f4f4f4 } img { max-width: 100%; border: 1px solid #ccc }
figure { display: inline-block; margin: .4em; max-width: 330px; vertical-align: top; font-size: 12px;
overflow-wrap: anywhere } .chart { max-width: 540px } .error { color: #b00020 } .warning { color: #9a6700 }
.note { color: #555 } .good { color: #116329 } code { overflow-wrap: anywhere; font-size: 13px }
details { margin: .3em 0 1em }
"""


def page(
    title: str,
    report: Mapping[str, Any],
    findings: Sequence[Finding],
    surveys: Sequence[Survey],
    names: Mapping[int, str],
) -> str:
    """Return the HTML text; `report` is the content of `doctor.json`."""
    verdict = "safe to train" if report["safe"] else "not safe to train"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="{"good" if report["safe"] else "error"}"><b>{verdict}</b></p>',
        f"<p>Suggested imgsz: <b>{report['suggested_imgsz']}</b> ({escape(report['imgsz_reason'])})</p>",
        *_split_table(report["splits"]),
        *_pictures(charts(surveys, names, report["queries"], report["imgsz"])),
        f"<h2>Findings: {len(findings)}</h2>",
    ]
    labels = {d["im_file"]: d for s in surveys for d in s.labels}
    files = [f for s in surveys for f in s.im_files]
    owners = {s.reader.label_files[i]: f for s in surveys if s.reader for i, f in enumerate(s.im_files) if _own_file(s)}
    for finding in findings:
        parts += _finding(finding, labels, files, owners, names)
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _own_file(survey: Survey) -> bool:
    """Return whether each image has its own label file."""
    return survey.reader is not None and len(survey.reader.label_files) == len(survey.im_files)


def _split_table(splits: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "<table><tr><th>split</th><th>images</th><th>usable</th><th>objects</th><th>most in one image</th>"
    yield "<th>shorter box side, 5 % / median / 95 %, px</th><th>below stride 8 / 16 / 32</th></tr>"
    for name, row in splits.items():
        side = row["side_px"]
        sides = " / ".join(f"{side[p]:.1f}" for p in ("p5", "p50", "p95")) if side else "-"
        below = " / ".join(f"{v:.1%}" for v in row["by_stride"].values())
        cells = (name, row["images"], row["usable"], row["objects"], row["objects_per_image"]["max"], sides, below)
        yield "<tr>" + "".join(f"<td>{escape(str(c))}</td>" for c in cells) + "</tr>"
    yield "</table>"


def _pictures(pictures: Sequence[tuple[str, bytes]]) -> Iterator[str]:
    for title, data in pictures:
        yield f'<figure class="chart">{_image(data, "png")}<figcaption>{escape(title)}</figcaption></figure>'


def _image(data: bytes, kind: str) -> str:
    return f'<img alt="" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def _finding(
    finding: Finding,
    labels: Mapping[str, Mapping[str, Any]],
    files: Sequence[str],
    owners: Mapping[str, str],
    names: Mapping[int, str],
) -> Iterator[str]:
    head = f"{finding.severity}: {f'{finding.split}: ' if finding.split else ''}{finding.message}"
    yield f'<h3 class="{finding.severity}">{escape(head)} <code>[{finding.code}]</code></h3>'
    yield f"<p>{escape(finding.remedy)}</p>"
    known = set(files)
    for path in list(dict.fromkeys(p for text in finding.examples for p in _paths(text, known, owners)))[:PICTURES]:
        data = thumbnail(path, labels.get(path), names)
        if data is not None:
            yield f"<figure>{_image(data, 'jpeg')}<figcaption>{escape(path)}</figcaption></figure>"
    lines = "<br>".join(escape(text) for text in finding.examples[:LINES])
    more = f"<br>and {len(finding.examples) - LINES} more" if len(finding.examples) > LINES else ""
    yield f"<details open><summary>{len(finding.examples)} place(s)</summary><code>{lines}{more}</code></details>"


def _paths(text: str, files: set[str], owners: Mapping[str, str]) -> Iterator[str]:
    """Give the images that a line of a finding names, by their own path or that of their label file."""
    parts = [text, *text.split(": like "), *text.split(": as ")]
    for part in parts:
        for end in (len(part), *(i for i, c in enumerate(part) if c == ":")):
            head = part[:end]
            if head in files:
                yield head
            elif head in owners:
                yield owners[head]
