"""The tables of an evaluation: COCO's numbers, classes, sizes, thresholds and times; as text, CSV, JSON and LaTeX.

Values are kept as numbers, rounded only where they are shown. -1 of COCO (nothing to measure) becomes None.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ultralytics.utils.files import atomic_write
from ultralytics.utils.log import LOGGER
from ultralytics.utils.metrics.bootstrap import LEVEL, Interval
from ultralytics.utils.metrics.coco import AREA_RANGES, MAX_DETS, STAT_NAMES, CocoImage, CocoResult, coco_ap
from ultralytics.utils.ops import smooth
from ultralytics.utils.tables import TABLE_FORMATS

if TYPE_CHECKING:
    from ultralytics.utils.metrics.det import DetMetrics

Value = str | int | float | None
SIZE_NAMES = ("all", "small", "medium", "large")
SIZE_NOTES = {"small": "small <32² px", "medium": "medium 32²-96² px", "large": "large >96² px"}
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Table:
    """A title, names of columns, and rows of values; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]

    def cells(self, decimals: int = 3) -> list[tuple[str, ...]]:
        """Return head and rows as text; None is a dash."""
        return [self.columns, *(tuple(_shown(v, decimals) for v in row) for row in self.rows)]

    def render(self, form: str = "text", decimals: int = 3) -> str:
        """Return the table in one of the forms of `utils.tables.TABLE_FORMATS`."""
        return "\n".join(TABLE_FORMATS[form](self.cells(decimals)))

    def records(self) -> list[dict[str, Value]]:
        """Return a dict for each row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def log_table(table: Table) -> None:
    """Log a table below an empty line."""
    LOGGER.info("")
    for line in table.render().splitlines():
        LOGGER.info(line)


def _shown(value: Value, decimals: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{decimals}f}" if isinstance(value, float) else str(value)


def _defined(value: float) -> float | None:
    """Return COCO's -1 and NaN as None."""
    return None if value < 0 or np.isnan(value) else float(value)


def times_of(spans: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Return mean and percentiles of each stage from its milliseconds per image.

    >>> times_of({"inference": [1.0, 3.0]})["inference"]["p50"]
    2.0
    """
    out = {}
    for stage, values in spans.items():
        if len(values):
            parts = {f"p{q}": float(np.percentile(values, q)) for q in PERCENTILES}
            out[stage] = {"mean": float(np.mean(values)), **parts}
    return out


def best_conf(metrics: DetMetrics) -> float:
    """Return the confidence of the best mean F1, at which P, R and F1 are reported."""
    data = metrics.box.curves_data
    if data is None or not len(data.f1_curve):
        return 0.0
    return float(data.x[int(smooth(data.f1_curve.mean(0), 0.1).argmax())])


def at_conf(metrics: DetMetrics, conf: float) -> dict[int, dict[str, float]]:
    """Return P, R, F1, TP, FP and FN of each class with targets, counting predictions above `conf` at IoU 0.5.

    These are counts of what a user sees at that confidence, not values read off a curve. P is 0 without predictions.
    """
    counts = {int(c): np.zeros(3) for c in np.flatnonzero(metrics.nt_per_class)}  # TP, FP, targets
    for stat in metrics.stats:
        keep = np.asarray(stat["conf"]) > conf
        classes, hit = np.asarray(stat["pred_cls"])[keep], np.asarray(stat["tp"], bool).reshape(-1, 10)[keep, 0]
        targets = np.asarray(stat["target_cls"])
        for c, row in counts.items():
            members = classes == c
            row += [hit[members].sum(), (~hit[members]).sum(), (targets == c).sum()]
    out = {}
    for c, row in counts.items():
        tp, fp, n = row.tolist()
        f1 = 2 * tp / (tp + fp + n)
        out[c] = {"P": tp / max(tp + fp, 1), "R": tp / n, "F1": f1, "TP": tp, "FP": fp, "FN": n - tp}
    return out


def class_agnostic(images: Sequence[CocoImage]) -> CocoResult:
    """Return COCO's numbers when all classes count as one: is anything found, whatever it is called?"""

    def zeros(image: CocoImage) -> CocoImage:
        n, m = len(image.classes), len(image.target_classes)
        return replace(image, classes=np.zeros(n), target_classes=np.zeros(m))

    return coco_ap([zeros(image) for image in images])


def overall_table(metrics: DetMetrics) -> Table:
    """COCO's 12 numbers, with their intervals when replicates were drawn."""
    stats, drawn = metrics.coco_stats, metrics.bootstrap
    if drawn is None:
        return Table("COCO", ("metric", "value"), tuple((name, _defined(stats[name])) for name in STAT_NAMES))
    rows = [_with_interval(name, drawn.interval(name, stats[name])) for name in STAT_NAMES]
    return Table("COCO", ("metric", "value", *interval_columns()), tuple(rows))


def interval_columns() -> tuple[str, str]:
    """Return the heads of the columns of an interval."""
    return f"low {LEVEL:.0%}", f"high {LEVEL:.0%}"


def _with_interval(name: str, interval: Interval) -> tuple[Value, ...]:
    if _defined(interval.value) is None:
        return name, None, None, None
    return name, interval.value, interval.low, interval.high


def class_table(metrics: DetMetrics, conf: float) -> Table:
    """A row for each class with targets, below the mean: P, R, F1 at the best threshold and at `conf`, AP, AR."""
    box, result, counts = metrics.box, metrics.coco_result, at_conf(metrics, conf)
    fixed = tuple(f"{name}@{conf:g}" for name in ("P", "R", "F1"))
    columns = ("class", "images", "boxes", "P", "R", "F1", *fixed, "AP50", "AP75", "AP", "AR100")
    rows: list[tuple[Value, ...]] = []
    recalls = np.full(len(box.ap_class_index), -1.0)
    if result is not None:
        recalls = result.recall[np.searchsorted(result.classes, box.ap_class_index), 0, :, -1].mean(1)
    for i, c in enumerate(box.ap_class_index.tolist()):
        values = [box.p[i], box.r[i], box.f1[i], *(counts[c][k] for k in ("P", "R", "F1"))]
        values += [box.ap50[i], box.all_ap[i, 5], box.ap[i], recalls[i]]
        numbers = (int(metrics.nt_per_image[c]), int(metrics.nt_per_class[c]))
        row: tuple[Value, ...] = (metrics.names.get(c, str(c)), *numbers, *(_defined(float(v)) for v in values))
        if metrics.bootstrap is not None:
            row += tuple(_defined(v) for v in metrics.bootstrap.class_interval(c, float(box.ap[i]))[1:])
        rows.append(row)
    columns += tuple(f"AP {head}" for head in interval_columns()) if metrics.bootstrap is not None else ()
    return Table("Classes", columns, (_mean_row(metrics, rows, len(columns)), *rows))


def _mean_row(metrics: DetMetrics, rows: Sequence[tuple[Value, ...]], width: int) -> tuple[Value, ...]:
    """Return the row of all classes: sums of counts, means of the rest; the interval is that of the AP."""
    means: list[Value] = []
    for column in range(3, 13):
        values = [float(row[column]) for row in rows if isinstance(row[column], float)]  # type: ignore[arg-type]
        means.append(float(np.mean(values)) if values else None)
    row: tuple[Value, ...] = ("all", len(metrics.stats), int(metrics.nt_per_class.sum()), *means)
    if width > len(row) and metrics.bootstrap is not None:
        row += tuple(_defined(v) for v in metrics.bootstrap.interval("AP", metrics.box.map)[1:])
    return row


def size_table(metrics: DetMetrics) -> Table:
    """AP and AR of all targets, of each of COCO's sizes, and of all with the classes taken as one."""
    images = metrics.coco_images()
    columns = ("targets", "boxes", "AP", "AP50", "AP75", *(f"AR{n}" for n in MAX_DETS))
    result = metrics.coco_result or coco_ap(images)
    rows = [
        (SIZE_NOTES.get(size, size), _targets_of_size(images, a), *_numbers(result, a))
        for a, size in enumerate(SIZE_NAMES)
    ]
    rows.append(("class-agnostic", rows[0][1], *_numbers(class_agnostic(images), 0)))
    return Table("Sizes", columns, tuple(rows))


def _targets_of_size(images: Sequence[CocoImage], a: int) -> int:
    """Count the targets of a size without crowd regions."""
    low, high = AREA_RANGES[a]
    total = 0
    for image in images:
        size = np.asarray(image.target_boxes).reshape(-1, 4)
        areas = (size[:, 2:] - size[:, :2]).prod(1) if image.areas is None else np.asarray(image.areas)
        crowd = np.zeros(len(size), bool) if image.crowd is None else np.asarray(image.crowd, bool)
        total += int(((areas >= low) & (areas <= high) & ~crowd).sum())
    return total


def _numbers(result: CocoResult, a: int) -> tuple[Value, ...]:
    """Return AP, AP50, AP75 and AR at each limit of one size."""
    ap, recall = result.ap[:, a], result.recall[:, a]
    parts = [ap, ap[:, :1], ap[:, 5:6], *(recall[:, :, m] for m in range(len(MAX_DETS)))]
    means = [part[part > -1] for part in parts]
    return tuple(float(m.mean()) if m.size else None for m in means)


def threshold_table(metrics: DetMetrics, conf: float) -> Table:
    """P, R and F1 (means over classes) and counts at the best threshold, there as on the curves, and at `conf`."""
    rows: list[tuple[Value, ...]] = []
    box = metrics.box
    on_curve = [box.mp, box.mr, float(box.f1.mean()) if len(box.f1) else 0.0]
    for name, value in (("best F1", best_conf(metrics)), ("shown", conf)):
        counts = list(at_conf(metrics, value).values())
        exact = [float(np.mean([c[k] for c in counts])) if counts else None for k in ("P", "R", "F1")]
        means = on_curve if name == "best F1" else exact
        rows.append((name, value, *means, *(int(sum(c[k] for c in counts)) for k in ("TP", "FP", "FN"))))
    return Table("Thresholds", ("threshold", "conf", "P", "R", "F1", "TP", "FP", "FN"), tuple(rows))


def time_table(metrics: DetMetrics) -> Table:
    """Milliseconds per image of each stage."""
    columns = ("ms per image", "mean", *(f"p{q}" for q in PERCENTILES))
    return Table("Time", columns, tuple((stage, *values.values()) for stage, values in metrics.times.items()))


def all_tables(metrics: DetMetrics, conf: float) -> dict[str, Table]:
    """Return every table by the name that it has in the JSON file."""
    return {
        "coco": overall_table(metrics),
        "classes": class_table(metrics, conf),
        "sizes": size_table(metrics),
        "thresholds": threshold_table(metrics, conf),
        "times": time_table(metrics),
    }


def write_tables(tables: Mapping[str, Table], folder: Path, stem: str, metadata: Mapping[str, Any]) -> list[Path]:
    """Write `<stem>.json`, `<stem>.csv` and `<stem>.tex` with all tables into `folder`; return the files.

    The JSON also holds `metadata`; CSV and LaTeX hold one table below the other, each under its title.
    """
    data = {**metadata, **{name: table.records() for name, table in tables.items()}}
    csv = "\n\n".join(f"# {t.title}\n{t.render('csv', 6)}" for t in tables.values())
    tex = "\n\n".join(f"% {t.title}\n{t.render('latex')}" for t in tables.values())
    files = []
    for suffix, text in (("json", json.dumps(data, indent=2, ensure_ascii=False)), ("csv", csv), ("tex", tex)):
        files.append(folder / f"{stem}.{suffix}")
        with atomic_write(files[-1], errors="backslashreplace") as f:  # paths that are not UTF-8; JSON reads them back
            f.write(text + "\n")
    return files
