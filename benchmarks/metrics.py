"""The metrics stage of a validation against pycocotools, on the same detections; the twelve numbers must be equal."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import Any

import numpy as np
from common import ROOT, Report, arguments, machine, take_turns, timed

sys.path.insert(0, str(ROOT))

from ultralytics.utils.metrics.coco import CocoImage, coco_ap

SIDE = 640.0


def draw(images: int, classes: int, detections: int, seed: int = 0) -> list[CocoImage]:
    """Random targets (1 to 15 an image) and detections, of which some lie near a target."""
    rng = np.random.default_rng(seed)
    drawn = []
    for image in range(images):
        targets = _boxes(rng, int(rng.integers(1, 16)))
        kinds = rng.integers(0, classes, len(targets)).astype(float)
        boxes, labels = _boxes(rng, detections), rng.integers(0, classes, detections).astype(float)
        near = rng.integers(0, len(targets), detections // 4)
        boxes[: len(near)] = targets[near] + rng.normal(0, 4, (len(near), 4))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        labels[: len(near)] = kinds[near]
        drawn.append(CocoImage(boxes, rng.random(detections), labels, targets, kinds, image_id=image + 1))
    return drawn


def _boxes(rng: np.random.Generator, n: int) -> Any:
    corner, size = rng.random((n, 2)) * SIDE * 0.8, np.exp(rng.normal(4, 1, (n, 2)))
    return np.concatenate((corner, np.minimum(corner + size + 1, SIDE)), 1)


def as_coco(images: list[CocoImage], classes: int) -> tuple[dict[str, Any], Any]:
    """The same in pycocotools' own input: an annotation dict and an array of rows image, x, y, w, h, score, class."""
    found: list[dict[str, Any]] = []
    rows = []
    for image in images:
        xywh = np.concatenate((image.target_boxes[:, :2], image.target_boxes[:, 2:] - image.target_boxes[:, :2]), 1)
        for box, kind in zip(xywh, image.target_classes, strict=True):
            entry = {"id": len(found) + 1, "image_id": image.image_id, "category_id": int(kind), "bbox": box.tolist()}
            found.append({**entry, "area": float(box[2] * box[3]), "iscrowd": 0})
        wh = image.boxes[:, 2:] - image.boxes[:, :2]
        ids = np.full((len(wh), 1), image.image_id)
        rows.append(np.concatenate((ids, image.boxes[:, :2], wh, image.scores[:, None], image.classes[:, None]), 1))
    kinds = [{"id": k, "name": str(k)} for k in range(classes)]
    sizes = [{"id": image.image_id, "width": SIDE, "height": SIDE} for image in images]
    return {"images": sizes, "annotations": found, "categories": kinds}, np.concatenate(rows)


def main() -> None:
    """Measure and report."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    args = arguments(__doc__ or "", rounds=(2, 7))
    images, classes, detections = (50 if args.quick else 500), 80, 300
    settings = {"images": images, "classes": classes, "detections an image": detections}
    report = Report("metrics", "Metrics of a validation", settings, machine(args.threads))
    drawn = draw(images, classes, detections)
    truth, rows = as_coco(drawn, classes)
    stats: dict[str, Any] = {}

    def ours() -> None:
        stats["ours"] = coco_ap(drawn).stats

    def theirs() -> None:
        """Evaluation alone: reading both inputs is not timed."""
        evaluation = COCOeval(annotations, results, "bbox")
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        stats["pycocotools"] = np.asarray(evaluation.stats)

    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO()
        annotations.dataset = truth
        annotations.createIndex()
        results = annotations.loadRes(rows)
    times = take_turns({"ours": timed(ours), "pycocotools": timed(theirs)}, args.rounds)
    report.compare("from detections to the twelve numbers", times, 5)
    difference = float(np.abs(stats["ours"] - stats["pycocotools"]).max())
    report.fact("largest difference of the twelve numbers", difference, "below 1e-9", difference < 1e-9)
    report.write(args.out)


if __name__ == "__main__":
    main()
