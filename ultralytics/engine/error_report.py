"""The report of an error analysis: tables of what each kind costs, and the images that cost most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ultralytics.data.images import imread
from ultralytics.utils.metrics.coco import CocoImage, by_id
from ultralytics.utils.metrics.errors import ERROR_KINDS, MISSED, SIZES, TRUE_POSITIVE, ErrorAnalysis, analyse_errors
from ultralytics.utils.metrics.report import SIZE_NOTES, Table, Value, write_tables
from ultralytics.utils.plotting.figure import literal
from ultralytics.utils.plotting.paper import PALETTE, paper_figure, paper_style, save_paper, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WORST = 12
"""Images of the contact sheet."""
SHEET_COLUMNS = 3
LONG_FILE = 36
"""Characters of a file name that its image takes."""
TARGET_COLOR = "#FFFFFF"


def error_tables(analysis: ErrorAnalysis, names: Mapping[int, str]) -> dict[str, Table]:
    """Return the tables `errors` (all kinds), `errors_by_class` and `errors_by_size`; costs are rises of AP50."""
    return {
        "errors": _kinds_table(analysis),
        "errors_by_class": _class_table(analysis, names),
        "errors_by_size": _size_table(analysis),
    }


def _kinds_table(analysis: ErrorAnalysis) -> Table:
    rows: list[tuple[Value, ...]] = [
        (name, analysis.count(kind), analysis.mean_cost(kind)) for kind, name in enumerate(ERROR_KINDS, 1)
    ]
    wrong = int((analysis.found.kind != TRUE_POSITIVE).sum())
    rows.append(("all false positives", wrong, analysis.false_positives()))
    lost = int((analysis.wanted.finder < 0).sum())
    rows.append(("all targets not found", lost, analysis.false_negatives()))
    ap = float(analysis.ap.mean()) if len(analysis.ap) else 0.0
    return Table(f"Errors at IoU 0.5, AP50 {ap:.3f}", ("error", "number", "dAP50"), tuple(rows))


def _class_table(analysis: ErrorAnalysis, names: Mapping[int, str]) -> Table:
    costs = np.array([analysis.cost(kind) for kind in range(1, MISSED + 1)])  # (6, nc)
    rows: list[tuple[Value, ...]] = []
    for k, c in enumerate(analysis.classes.tolist()):
        values = [None if np.isnan(v) else float(v) for v in costs[:, k]]
        rows.append((names.get(c, str(c)), float(analysis.ap[k]), *values))
    return Table("dAP50 of each kind by class", ("class", "AP50", *ERROR_KINDS), tuple(rows))


def _size_table(analysis: ErrorAnalysis) -> Table:
    rows: list[tuple[Value, ...]] = []
    for size, name in enumerate(SIZES):
        part = analysis.of_size(size)
        ap = float(part.ap.mean()) if len(part.ap) else None
        costs = [part.mean_cost(kind) if ap is not None else None for kind in range(1, MISSED + 1)]
        rows.append((SIZE_NOTES[name], len(part.wanted.classes), ap, *costs))
    return Table("dAP50 of each kind by size", ("targets", "boxes", "AP50", *ERROR_KINDS), tuple(rows))


def write_errors(
    images: Sequence[CocoImage], files: Sequence[str], names: Mapping[int, str], folder: Path, conf: float
) -> tuple[dict[str, Table], list[Path]]:
    """Analyse the errors; write `errors.{json,csv,tex}` and the contact sheet into `folder`; return tables and files.

    `images` and `files` have the same order; on the sheet are false positives with a score of at least `conf`.
    """
    analysis = analyse_errors(images)
    tables = error_tables(analysis, names)
    written = write_tables(tables, folder, "errors", {"images": len(images), "iou": 0.5})
    order = {id(image): file for image, file in zip(images, files, strict=True)}
    ordered = [(image, order[id(image)]) for image in by_id(images)]
    return tables, [*written, *draw_worst(analysis, ordered, names, folder / "worst_images", conf)]


def draw_worst(
    analysis: ErrorAnalysis,
    images: Sequence[tuple[CocoImage, str]],
    names: Mapping[int, str],
    stem: Path,
    conf: float = 0.25,
) -> list[Path]:
    """Draw the images whose errors lower AP50 most, the worst first, with their targets and errors; return the file.

    `images` are those of the analysis in its order, each with its path. Nothing is drawn where there is no error.
    """
    worst = list(analysis.image_losses().items())[:WORST]
    if not worst:
        return []
    columns = min(SHEET_COLUMNS, len(worst))
    down = -(-len(worst) // columns)
    with paper_style():
        figure, axes = paper_figure(2.15 * down + 0.5, down, columns, width=2.6 * columns)
        for ax, (place, loss) in zip(axes, worst, strict=False):
            image, file = images[place]
            _draw_image(ax, analysis, place, (image, file), names, conf)
            name = literal(short_name(Path(file).name, LONG_FILE))
            ax.set_title(f"{name}\n{_counts(analysis, place)}, loss of AP50 {loss:.4f}", fontsize=6)
        for ax in axes:
            ax.axis("off")
        _legend(figure)
        return save_paper(figure, stem, "png")


def _counts(analysis: ErrorAnalysis, place: int) -> str:
    wrong = int(((analysis.found.image == place) & (analysis.found.kind != TRUE_POSITIVE)).sum())
    lost = int(((analysis.wanted.image == place) & (analysis.wanted.finder < 0)).sum())
    return f"{lost} not found, {wrong} false"


def _draw_image(
    ax: Axes,
    analysis: ErrorAnalysis,
    place: int,
    source: tuple[CocoImage, str],
    names: Mapping[int, str],
    conf: float,
) -> None:
    """Draw an image, its targets (those that are missed in the colour of that kind), and its false positives."""
    image, file = source
    pixels = imread(file)
    if pixels is not None:
        ax.imshow(pixels[..., ::-1])
    crowd = np.zeros(len(image.target_classes), bool) if image.crowd is None else np.asarray(image.crowd, bool)
    truth = np.asarray(image.target_boxes).reshape(-1, 4)[~crowd]
    missed = analysis.wanted.missed[analysis.wanted.image == place]
    for box, lost in zip(truth, missed, strict=True):
        _rectangle(ax, box, PALETTE[MISSED] if lost else TARGET_COLOR, dashed=not lost)
    found = analysis.found
    shown = (found.image == place) & (found.kind != TRUE_POSITIVE) & (found.scores >= conf)
    for i in np.flatnonzero(shown):
        c, kind, box = int(found.classes[i]), int(found.kind[i]), found.boxes[i]
        _rectangle(ax, box, PALETTE[kind - 1], dashed=False)
        label = literal(f"{names.get(c, c)} {found.scores[i]:.2f}")
        ax.text(box[0], box[1], label, fontsize=4, color="white", backgroundcolor=PALETTE[kind - 1], va="bottom")


def _rectangle(ax: Axes, box: np.ndarray, color: str, dashed: bool) -> None:
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = (float(v) for v in box)
    style: dict[str, Any] = {"linestyle": (0, (3, 2)) if dashed else "solid", "linewidth": 0.8 if dashed else 1.2}
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, **style))


def _legend(figure: Figure) -> None:
    from matplotlib.patches import Patch

    kinds = [
        Patch(facecolor=PALETTE[i if i < MISSED - 1 else MISSED], label=name) for i, name in enumerate(ERROR_KINDS)
    ]
    target = Patch(facecolor="white", edgecolor="grey", linestyle="--", label="target")
    figure.legend(handles=[*kinds, target], loc="outside lower center", ncols=4)
