"""The command `yolo report`: one HTML page of a run folder that makes no request."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2

from ultralytics.cfg.schema import KEYS
from ultralytics.data.images import imread
from ultralytics.engine.training.console import FINAL_METRICS
from ultralytics.nn.checkpoint.format import read_checkpoint
from ultralytics.study.figures import draw_run_bands
from ultralytics.study.jobs import trained_weights
from ultralytics.study.pages.data_summary import data_rows
from ultralytics.study.pages.html import details, document, picture, picture_file, table_html
from ultralytics.study.results import columns_of, read_tables
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.errors import NotFoundError, UserError
from ultralytics.utils.files import atomic_write
from ultralytics.utils.log import LOGGER, colorstr

PICTURE_SIDE = 1600
"""Pixels of the longer side of a picture in the page; larger ones are made smaller."""
LAST_ROWS = 10
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
TITLES: Mapping[str, str] = {
    "results": "Losses and metrics over the epochs",
    "worst_images": "Images whose errors lower AP50 most",
    "confusion_matrix": "Confusion matrix",
    "confusion_matrix_normalized": "Confusion matrix, normalised by the true class",
    "labels": "Labels of the training split",
}

TABLE_TITLES: Mapping[str, str] = {
    "coco": "COCO metrics",
    "classes": "By class",
    "sizes": "By size of the targets",
    "thresholds": "Thresholds of the score",
    "times": "Times",
    "errors": "Errors and what they cost",
    "errors_by_class": "Errors by class, cost in AP50",
    "errors_by_size": "Errors by size of the targets, cost in AP50",
}


def report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write one page about a run folder: numbers, arguments, data, curves, pictures, environment; return the file.

    `out` defaults to `report.html` in the folder.

    Raises:
        NotFoundError: the folder is not one of a run.
    """
    folder = Path(run)
    if not (folder / "args.yaml").is_file() and not (folder / "metrics.json").is_file():
        remedy = "name a folder such as runs/detect/train"
        raise NotFoundError(f"{folder}: not a run folder, as it has neither args.yaml nor metrics.json", remedy)
    args = YAML.load(folder / "args.yaml") if (folder / "args.yaml").is_file() else _validated(folder)
    target = Path(out) if out else folder / "report.html"
    with atomic_write(target) as f:
        f.write(document(f"Run {folder.resolve().name}", _parts(folder, args)))
    LOGGER.info(f"Report saved to {colorstr('bold', str(target))}")
    return target


def _validated(folder: Path) -> dict[str, Any]:
    """Model and data of a folder that a validation has written."""
    record = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {name: record[name] for name in ("model", "data") if record.get(name)}


def _parts(folder: Path, args: Mapping[str, Any]) -> Iterator[str]:
    """Yield the parts of the page."""
    model, data = str(args.get("model") or "model"), str(args.get("data") or "no data set")
    yield f"<p class=note>{escape(model)} on {escape(data)}</p>"
    yield from _final_metrics(folder)
    yield from _metrics(folder)
    yield from _epochs(folder)
    yield from _pictures(folder)
    yield from _arguments(args)
    yield from _data(folder, args)
    yield from _environment(folder)


def _metrics(folder: Path) -> Iterator[str]:
    """Yield the tables that a validation has written."""
    for name in ("metrics.json", "errors.json"):
        file = folder / name
        if not file.is_file():
            continue
        data = json.loads(file.read_text(encoding="utf-8"))
        for title, records in data.items():
            if isinstance(records, list) and records:
                rows = [tuple(records[0]), *(tuple(_shown(v) for v in record.values()) for record in records)]
                yield f"<h2>{escape(TABLE_TITLES.get(title, title.replace('_', ' ')))}</h2>" + table_html(rows)


def _final_metrics(folder: Path) -> Iterator[str]:
    """Yield the numbers of the weights that a training run has ended with."""
    try:
        record = json.loads((folder / FINAL_METRICS).read_text(encoding="utf-8"))
        rows = [(name, _shown(value)) for name, value in record["metrics"].items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    note = f"{record.get('weights')}, {record.get('precision')}, {record.get('images')} validation images"
    yield f"<h2>Final metrics</h2><p class=note>{escape(note)}</p>" + table_html([("metric", "value"), *rows])


def _data(folder: Path, args: Mapping[str, Any]) -> Iterator[str]:
    """Yield images and boxes of the data set, where it is still here, and what its check has found."""
    findings = folder / "data_report.txt"
    if not args.get("data") and not findings.is_file():
        return
    yield "<h2>Data</h2>"
    if args.get("data"):
        try:
            yield table_html(data_rows(str(args["data"])))
        except UserError as e:
            yield f"<p class=note>{escape(str(e).splitlines()[0])}</p>"
    if findings.is_file():
        yield details("findings", f"<pre>{escape(findings.read_text(encoding='utf-8'))}</pre>")


def _shown(value: object) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _epochs(folder: Path) -> Iterator[str]:
    """Yield the last epochs of results.csv."""
    file = folder / "results.csv"
    if not file.is_file():
        return
    rows = [tuple(c.strip() for c in row) for row in csv.reader(io.StringIO(file.read_text(encoding="utf-8")))]
    if len(rows) > 1:
        if not (folder / "results.png").is_file():
            yield f'<div class="tall">{_curves(folder)}</div>'
        shown = [rows[0], *(tuple(_rounded(c) for c in row) for row in rows[1:][-LAST_ROWS:])]
        yield f"<h2>Epochs: the last {len(shown) - 1} of {len(rows) - 1}</h2>" + table_html(shown)


def _curves(folder: Path) -> str:
    """The curves of results.csv, of a run that has drawn none."""
    tables = read_tables({folder.name: [folder]})
    with TemporaryDirectory() as place:
        files = draw_run_bands(tables, Path(place) / "curves", columns_of(tables), "png")
        return picture_file(files[0], TITLES["results"]) if files else ""


def _rounded(cell: str) -> str:
    try:
        return f"{float(cell):.4g}"
    except ValueError:
        return cell


def _pictures(folder: Path) -> Iterator[str]:
    """Yield every picture of the folder, curves first."""
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        return
    order = list(TITLES)
    files.sort(key=lambda f: (order.index(f.stem) if f.stem in order else len(order), f.name))
    yield '<h2>Figures and images</h2><div class="gallery">'
    for file in files:
        yield _embedded(file, TITLES.get(file.stem, file.stem.replace("_", " ")))
    yield "</div>"


def _embedded(file: Path, title: str) -> str:
    """A picture, made smaller where it is larger than a page needs."""
    image = imread(file)
    if image is None or max(image.shape[:2]) <= PICTURE_SIDE:
        return picture_file(file, title)
    gain = PICTURE_SIDE / max(image.shape[:2])
    small = cv2.resize(image, None, fx=gain, fy=gain, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".png" if file.suffix.lower() == ".png" else ".jpg", small)
    return picture(data.tobytes(), file.suffix, title) if done else ""


def _arguments(args: Mapping[str, Any]) -> Iterator[str]:
    """Yield the arguments that differ from the defaults, and all of them folded."""
    if not args:
        return
    changed = [(k, str(v), str(KEYS[k].default)) for k, v in args.items() if k in KEYS and v != KEYS[k].default]
    yield "<h2>Arguments</h2>" + table_html([("argument", "value", "default"), *changed], text={1, 2})
    rows = [("argument", "value"), *((k, str(v)) for k, v in args.items())]
    yield details(f"all {len(args)} arguments", table_html(rows, text={1}))


def _environment(folder: Path) -> Iterator[str]:
    """Yield what the checkpoint records about the program and the time."""
    if file := trained_weights(folder):
        record = read_checkpoint(file)
        rows = [("weights", file.name), *((k, str(record[k])) for k in ("version", "date", "license") if record.get(k))]
        yield "<h2>Environment</h2>" + table_html([("", "value"), *rows], text={1})
