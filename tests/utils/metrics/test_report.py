"""Tables of an evaluation against counts made by hand and against COCO's numbers."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.utils.metrics.coco_sets import KINDS, make_set, pycoco
from ultralytics.utils.metrics import DetMetrics
from ultralytics.utils.metrics.coco import CocoImage
from ultralytics.utils.metrics.report import Table, at_conf, best_conf, class_agnostic, times_of, write_tables

NAMES = {0: "cat", 1: "dog", 2: "a_b"}


def stat(image: CocoImage) -> dict[str, Any]:
    """An image of the COCO tests as a validator hands it over, matched at IoU 0.5 by loops."""
    order = np.argsort(-image.scores, kind="stable")
    boxes, classes = image.boxes[order], image.classes[order]
    tp, free = np.zeros((len(boxes), 10), bool), set(range(len(image.target_boxes)))
    for i, (box, c) in enumerate(zip(boxes, classes, strict=True)):
        best, chosen = 0.5, None
        for j in sorted(free):
            x1, y1, x2, y2 = image.target_boxes[j]
            w, h = min(box[2], x2) - max(box[0], x1), min(box[3], y2) - max(box[1], y1)
            inter = max(w, 0) * max(h, 0)
            iou = inter / ((box[2] - box[0]) * (box[3] - box[1]) + (x2 - x1) * (y2 - y1) - inter)
            if c == image.target_classes[j] and iou >= best:
                best, chosen = iou, j
        if chosen is not None:
            tp[i, 0] = True
            free.discard(chosen)
    return {
        "tp": tp, "conf": image.scores[order], "pred_cls": classes, "target_cls": image.target_classes,
        "pred_boxes": boxes, "target_boxes": image.target_boxes, "areas": image.areas, "image_id": image.image_id,
    }  # fmt: skip


def evaluated(kind: str, seed: int = 0, names: dict[int, str] | None = None) -> DetMetrics:
    metrics = DetMetrics(names or {i: f"c{i}" for i in range(4)}, coco=True)
    for image in make_set(seed, KINDS[kind]):
        metrics.update_stats(stat(image))
    metrics.process()
    return metrics


@pytest.mark.parametrize("kind", ["no detections", "no targets", "empty images", "plain", "boxes in a heap"])
def test_every_table_of_every_kind(kind: str, tmp_path: Path) -> None:
    metrics = evaluated(kind)
    tables = metrics.tables()
    assert list(tables) == ["coco", "classes", "sizes", "thresholds", "times"]
    files = write_tables(tables, tmp_path, "metrics", {"model": "x\udce9.pt"})
    assert [f.name for f in files] == ["metrics.json", "metrics.csv", "metrics.tex"]
    data = json.loads(files[0].read_text())
    assert data["model"] == "x\udce9.pt"
    stats = metrics.coco_stats
    assert {row["metric"]: -1 if row["value"] is None else row["value"] for row in data["coco"]} == pytest.approx(stats)
    assert len(data["classes"]) == 1 + len(metrics.ap_class_index)
    assert files[2].read_text().count(r"\begin{tabular}") == 5


def test_counts_at_a_confidence_are_what_is_seen() -> None:
    metrics = evaluated("plain")
    for conf in (0.0, 0.3, 0.9, 1.0):
        for c, row in at_conf(metrics, conf).items():
            tp = fp = n = 0
            for s in metrics.stats:
                for hit, score, cls in zip(s["tp"][:, 0], s["conf"], s["pred_cls"], strict=True):
                    if score > conf and cls == c:
                        tp, fp = tp + int(hit), fp + int(not hit)
                n += int((s["target_cls"] == c).sum())
            assert (row["TP"], row["FP"], row["FN"]) == (tp, fp, n - tp)
            assert row["P"] == pytest.approx(tp / (tp + fp) if tp + fp else 0)
            assert row["R"] == pytest.approx(tp / n)
            want = 2 * row["P"] * row["R"] / (row["P"] + row["R"]) if tp else 0
            assert row["F1"] == pytest.approx(want)


def test_best_threshold_is_where_p_and_r_are_reported() -> None:
    metrics = evaluated("plain")
    data, box = metrics.box.curves_data, metrics.box
    at = int(np.flatnonzero(data.x == best_conf(metrics))[0])
    assert data.p_curve[:, at].mean() == box.mp and data.r_curve[:, at].mean() == box.mr
    rows = metrics.tables()["thresholds"].records()
    assert rows[0]["P"] == box.mp and rows[0]["conf"] == best_conf(metrics)
    assert rows[1]["conf"] == 0.25


def test_sizes_and_agnostic_are_pycocotools() -> None:
    metrics = evaluated("plain", seed=2)
    images = make_set(2, KINDS["plain"])
    want, _ = pycoco(images)
    rows = {str(r["targets"]).split()[0]: r for r in metrics.tables()["sizes"].records()}
    assert [rows[s]["AP"] for s in ("all", "small", "medium", "large")] == pytest.approx([want[0], *want[3:6]])
    assert [rows["all"][k] for k in ("AP50", "AP75", "AR1", "AR10", "AR100")] == pytest.approx([*want[1:3], *want[6:9]])
    assert [rows[s]["AR100"] for s in ("small", "medium", "large")] == pytest.approx(want[9:])
    assert rows["all"]["boxes"] == sum(len(i.target_boxes) for i in images)
    assert rows["all"]["boxes"] == sum(rows[s]["boxes"] for s in ("small", "medium", "large"))
    merged = [CocoImage(i.boxes, i.scores, i.classes * 0, i.target_boxes, i.target_classes * 0) for i in images]
    merged = [CocoImage(**{**vars(m), "image_id": i.image_id}) for m, i in zip(merged, images, strict=True)]
    agnostic, _ = pycoco(merged)
    assert rows["class-agnostic"]["AP"] == pytest.approx(agnostic[0])
    np.testing.assert_allclose(class_agnostic(images).stats, agnostic, atol=1e-9)


def test_intervals_stand_beside_the_numbers() -> None:
    metrics = evaluated("plain")
    assert metrics.tables()["coco"].columns == ("metric", "value")
    drawn = metrics.resample(samples=50, seed=1)
    table = metrics.tables()["coco"]
    assert table.columns == ("metric", "value", "low 95%", "high 95%")
    name, value, low, high = table.rows[0]
    assert name == "AP" and value == metrics.box.map
    assert [low, high] == pytest.approx(np.percentile(drawn.stats[:, 0], [2.5, 97.5]))
    classes = metrics.tables()["classes"]
    assert classes.columns[-2:] == ("AP low 95%", "AP high 95%")
    assert all(len(row) == len(classes.columns) for row in classes.rows)
    assert classes.rows[0][-2:] == (low, high)


def test_class_rows() -> None:
    metrics = evaluated("plain")
    head, *rows = metrics.tables(conf=0.4)["classes"].records()
    assert head["class"] == "all" and head["AP"] == pytest.approx(metrics.box.map)
    assert head["AR100"] == pytest.approx(metrics.coco_stats["AR100"])
    assert head["P"] == pytest.approx(metrics.box.mp) and "F1@0.4" in head
    for i, row in enumerate(rows):
        assert (row["AP50"], row["AP75"], row["AP"]) == pytest.approx(
            (metrics.box.ap50[i], metrics.box.all_ap[i, 5], metrics.box.ap[i])
        )


def test_rendering() -> None:
    table = Table("T", ("name", "n", "value"), (("a,b", 3, 0.123456), ("c", 0, None)))
    assert table.render().splitlines() == ["name  n  value", "a,b   3  0.123", "c     0      -"]
    assert list(csv.reader(io.StringIO(table.render("csv", 5))))[1] == ["a,b", "3", "0.12346"]
    assert r"a,b & 3 & 0.123 \\" in table.render("latex")
    assert table.records()[1] == {"name": "c", "n": 0, "value": None}


def test_latex_of_the_summary() -> None:
    metrics = evaluated("one class", names={0: "a_b"})
    assert r"a\_b & " in metrics.to_latex()
    assert DetMetrics(NAMES).to_latex() == ""


def test_times() -> None:
    assert times_of({"inference": [], "loss": [2.0]}) == {"loss": {"mean": 2.0, "p50": 2.0, "p90": 2.0, "p99": 2.0}}
    spans = list(np.arange(101.0))
    assert times_of({"x": spans})["x"] == {"mean": 50.0, "p50": 50.0, "p90": 90.0, "p99": 99.0}
