"""Made-up data sets of every awkward kind for the evaluator, and COCO's own numbers of them."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from ultralytics.utils.metrics import CocoImage

# kind: images, classes, targets and detections per image (upper ends), and what is special
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"images": 12, "classes": 4, "targets": 8, "dets": 20},
    "one class": {"images": 10, "classes": 1, "targets": 10, "dets": 30},
    "80 classes": {"images": 6, "classes": 80, "targets": 20, "dets": 40},
    "crowds": {"images": 10, "classes": 3, "targets": 8, "dets": 25, "crowd": 0.3},
    "only crowds": {"images": 4, "classes": 2, "targets": 4, "dets": 10, "crowd": 1.0},
    "empty images": {"images": 12, "classes": 3, "targets": 6, "dets": 15, "empty": 0.5},
    "ties": {"images": 10, "classes": 3, "targets": 8, "dets": 25, "score_steps": 3},
    "boxes in a heap": {"images": 5, "classes": 2, "targets": 50, "dets": 90, "spread": 60},
    "above 100": {"images": 3, "classes": 2, "targets": 60, "dets": 320},
    "duplicates": {"images": 8, "classes": 2, "targets": 6, "dets": 30, "jitter": 0},
    "areas given": {"images": 8, "classes": 3, "targets": 8, "dets": 20, "areas": True},
    "no detections": {"images": 4, "classes": 2, "targets": 5, "dets": 0},
    "no targets": {"images": 4, "classes": 2, "targets": 0, "dets": 9},
}


def _targets(rng: np.random.Generator, kind: dict[str, Any]) -> tuple[Any, ...]:
    """Integer boxes of the three sizes, classes, crowd flags, areas."""
    n = rng.integers(1, kind["targets"] + 1) if kind["targets"] else 0
    size = rng.choice([12, 20, 32, 60, 96, 180], (n, 2)) + rng.integers(0, 9, (n, 2))
    corner = rng.integers(0, kind.get("spread", 400), (n, 2))
    boxes = np.concatenate([corner, corner + size], 1).astype(float)
    areas = (size.prod(1) * rng.uniform(0.3, 1, n)).round() if kind.get("areas") else None
    return boxes, rng.integers(0, kind["classes"], n), rng.random(n) < kind.get("crowd", 0), areas


def _detections(rng: np.random.Generator, kind: dict[str, Any], boxes: Any, classes: Any) -> tuple[Any, ...]:
    """Some near targets, some nowhere, some of the wrong class."""
    n = rng.integers(kind["dets"] // 2, kind["dets"] + 1)
    corner = rng.integers(0, kind.get("spread", 400), (n, 2))
    out = np.concatenate([corner, corner + rng.integers(8, 200, (n, 2))], 1).astype(float)
    labels = rng.integers(0, kind["classes"], n)
    if len(boxes):
        near, source = rng.random(n) < 0.7, rng.integers(0, len(boxes), n)
        jitter = kind.get("jitter", 6)
        out[near] = (boxes[source] + rng.integers(-jitter, jitter + 1, (n, 4)))[near]
        out[:, 2:] = np.maximum(out[:, 2:], out[:, :2] + 1)
        labels = np.where(near & (rng.random(n) < 0.9), classes[source], labels)
    steps = kind.get("score_steps", 100000)
    return out, rng.integers(0, steps, n) / steps, labels


def make_set(seed: int, kind: dict[str, Any]) -> list[CocoImage]:
    """One data set of a kind, as the evaluator takes it."""
    rng = np.random.default_rng(seed)
    images = []
    for i in range(kind["images"]):
        boxes, classes, crowd, areas = _targets(rng, kind)
        dets, scores, labels = _detections(rng, kind, boxes, classes)
        what = rng.random()
        if what < kind.get("empty", 0) / 2:
            boxes, classes, crowd = boxes[:0], classes[:0], crowd[:0]
        elif what < kind.get("empty", 0):
            dets, scores, labels = dets[:0], scores[:0], labels[:0]
        images.append(CocoImage(dets, scores, labels, boxes, classes, areas, crowd, image_id=i))
    return images


def pycoco(images: list[CocoImage]) -> tuple[Any, Any]:
    """The same data through pycocotools: its twelve numbers and its tables."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    targets, dets = [], []
    for image in images:
        common = {"image_id": image.image_id}
        for j, (x1, y1, x2, y2) in enumerate(image.target_boxes.tolist()):
            area = (x2 - x1) * (y2 - y1) if image.areas is None else image.areas[j]
            crowd = 0 if image.crowd is None else int(image.crowd[j])
            box = [x1, y1, x2 - x1, y2 - y1]
            row = {"id": len(targets) + 1, "category_id": int(image.target_classes[j]), "bbox": box, "area": area}
            targets.append({**common, **row, "iscrowd": crowd})
        for (x1, y1, x2, y2), score, c in zip(image.boxes.tolist(), image.scores, image.classes, strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            dets.append({**common, "category_id": int(c), "bbox": box, "score": float(score)})
    categories = sorted({r["category_id"] for r in targets + dets})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {
            "images": [{"id": image.image_id} for image in images],
            "categories": [{"id": c} for c in categories],
            "annotations": targets,
        }
        truth.createIndex()
        if not dets:  # loadRes refuses an empty list
            return np.array([0.0 if (targets and not all(t["iscrowd"] for t in targets)) else -1.0] * 12), None
        run = evaluation.COCOeval(truth, truth.loadRes(dets), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats, run.eval
