"""Data in COCO's form: validation has the numbers that pycocotools gets from the annotation file as published."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.engine.tiny import Oracle
from ultralytics.data.convert import convert
from ultralytics.models.rtdetr.val import RTDETRValidator, build_rtdetr_dataset
from ultralytics.utils.config.namespace import IterableSimpleNamespace

CATEGORIES = {3: "bus", 17: "Cat", 90: "dog"}  # ids with gaps, in another order than the YAML has them
HEAD = "train: images/train\nval: images/val\nnames: [cat, dog, bus]\n"


class OracleValidator(RTDETRValidator):
    """Takes the oracle as it is instead of loading weights."""

    def _backend(self, weights: Any) -> Any:
        return weights


def annotations(rng: np.random.Generator, n: int, size: tuple[int, int], kind: str) -> list[dict[str, Any]]:
    """Objects of one image: areas of masks, crowds, and in a wild set all that a checker would complain about."""
    w, h = size
    rows: list[dict[str, Any]] = []
    for _ in range(n):
        side = rng.choice([14, 31, 33, 60, 95, 97, 140], 2)
        box = [
            float(v) for v in (*rng.uniform(0, (w * 0.6, h * 0.6)).round(2), *np.minimum(side, (w * 0.39, h * 0.39)))
        ]
        row = {"category_id": int(rng.choice(list(CATEGORIES))), "bbox": box, "iscrowd": int(rng.random() < 0.3)}
        rows.append({**row, "area": float(box[2] * box[3] * rng.uniform(0.2, 1.3))})
    if kind == "wild" and rows:
        first = rows[0]
        rows += [
            {**first, "iscrowd": 0},  # the same object twice, and three times
            {**first, "iscrowd": 0, "area": 5.0},
            {**first, "bbox": [-6.5, -3.0, 40.0, 30.0], "iscrowd": 0},  # beyond the frame
            {**first, "bbox": [w - 20.0, h - 20.0, 30.0, 30.0], "iscrowd": 0},
            {**first, "bbox": [5.0, 5.0, 0.0, 9.0], "area": 0.0, "iscrowd": 0},  # no width
            {**first, "bbox": [20.0, 20.0, 25.0, 25.0], "area": 600.0, "iscrowd": 0, "ignore": 1},
        ]
    return rows


def coco_set(root: Path, seed: int, kind: str = "plain") -> Path:
    """Write a set in COCO's form; of the images of `val` one is empty, and one holds a crowd and nothing else."""
    rng = np.random.default_rng(seed)
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True)
        images, found = [], []
        for i in range(7):
            size = (int(rng.integers(150, 380)), int(rng.integers(150, 380)))
            name = f"{split}_{'abcdefg'[i]}.png"
            cv2.imwrite(str(root / "images" / split / name), rng.integers(0, 255, (size[1], size[0], 3), np.uint8))
            images.append({"id": 501 - 7 * i, "file_name": name, "width": size[0], "height": size[1]})
            rows = annotations(rng, int(rng.integers(2, 9)), size, kind)
            if i == 3:
                rows = [{**rows[0], "bbox": [0.0, 0.0, 140.0, 120.0], "area": 900.0, "iscrowd": 1}]
            found += [{**row, "image_id": images[-1]["id"]} for row in ([] if i == 5 else rows)]
        table = {
            "images": images,
            "categories": [{"id": k, "name": v} for k, v in CATEGORIES.items()],
            "annotations": [{"id": k, **row} for k, row in enumerate(found, 1)],
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(table))
    (root / "data.yaml").write_text(HEAD)
    return root / "data.yaml"


def answers(root: Path, seed: int) -> list[list[list[float]]]:
    """Detections in the order of the files: near objects and within crowds, others nowhere, some of a wrong class."""
    rng = np.random.default_rng(seed + 1000)
    distinct = iter(rng.permutation(100_000) / 1e5)  # also as predictions.json rounds them: ties have no set order
    table = json.loads((root / "annotations/instances_val.json").read_text())
    classes = {3: 2, 17: 0, 90: 1}
    out = []
    for image in sorted(table["images"], key=lambda image: image["file_name"]):
        size = np.array([image["width"], image["height"]] * 2)
        rows = []
        for target in (a for a in table["annotations"] if a["image_id"] == image["id"]):
            x, y, w, h = target["bbox"]
            for _ in range(rng.integers(1, 5) if target["iscrowd"] else 1):
                part = rng.uniform(0.3, 0.9, 2) if target["iscrowd"] else np.ones(2)
                corner = np.array([x, y]) + (1 - part) * (w, h) * rng.random(2) + rng.uniform(-5, 5, 2)
                box = np.concatenate([corner, np.maximum((w, h) * part + rng.uniform(-5, 5, 2), 2)])
                rows.append((box, classes[target["category_id"]] if rng.random() < 0.85 else rng.integers(3)))
        for _ in range(3):
            rows.append((np.concatenate([rng.uniform(0, 100, 2), rng.uniform(5, 100, 2)]), rng.integers(3)))
        scores = np.sort([next(distinct) for _ in rows])[::-1]
        order = rng.permutation(len(rows))
        boxes = [(rows[i][0] + (*(rows[i][0][2:] / 2), 0, 0)) / size for i in order]
        out.append([[*b.tolist(), float(s), float(rows[i][1])] for b, s, i in zip(boxes, scores, order, strict=True)])
    return out


def validate(yaml: Path, found: list[list[list[float]]], tmp: Path, **more: Any) -> Any:
    options = {"data": str(yaml), "imgsz": 64, "batch": 3, "workers": 0, "plots": False, "device": "cpu", "mode": "val",
               "project": str(tmp), "name": "val", "exist_ok": True, "save_json": True, **more}  # fmt: skip
    validator = OracleValidator(args=options)
    validator(model=Oracle(found))
    return validator.metrics


def published(file: Path, detections: list[dict[str, Any]] | Path) -> np.ndarray:
    """The 12 numbers of pycocotools for the annotation file as it is."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO(str(file))
        run = evaluation.COCOeval(
            truth, truth.loadRes(detections if isinstance(detections, list) else str(detections)), "bbox"
        )
        run.evaluate(), run.accumulate(), run.summarize()
    return np.asarray(run.stats)


@pytest.mark.parametrize("kind", ["plain", "wild"])
@pytest.mark.parametrize("seed", range(4))
def test_validation_equals_pycocotools_on_the_original_file(tmp_path: Path, seed: int, kind: str) -> None:
    yaml = coco_set(tmp_path, seed, kind)
    file = tmp_path / "annotations/instances_val.json"
    for _ in range(2):  # from the file, and from the cache of labels
        metrics = validate(yaml, answers(tmp_path, seed), tmp_path)
        stats = np.array(list(metrics.coco_stats.values()))
        want = published(file, tmp_path / "val/predictions.json")
        assert 0.05 < want[0] < 0.95 and np.isfinite(want).all()
        np.testing.assert_allclose(stats, want, atol=1e-9)
        assert metrics.box.map == pytest.approx(want[0], abs=1e-9)
        assert metrics.box.map50 == pytest.approx(want[1], abs=1e-9)
    table = json.loads(file.read_text())
    assert metrics.nt_per_class.sum() == sum(not a["iscrowd"] for a in table["annotations"])
    if kind == "plain":  # crowds and areas make a difference here, so that the test can fail
        for change in ({"iscrowd": 0}, {"area": None}):
            other = tmp_path / "other.json"
            rows = [{**a, **change} for a in table["annotations"]]
            rows = [{**a, "area": a["bbox"][2] * a["bbox"][3]} if a["area"] is None else a for a in rows]
            other.write_text(json.dumps({**table, "annotations": rows}))
            assert np.abs(published(other, tmp_path / "val/predictions.json") - stats).max() > 1e-3


def test_crowds_are_no_training_targets_and_an_image_of_one_is_a_background(tmp_path: Path) -> None:
    yaml = coco_set(tmp_path, 0)
    validator = OracleValidator(args={"data": str(yaml), "imgsz": 64, "workers": 0, "mode": "val"})
    data = validator.get_dataset(str(yaml))
    table = json.loads((tmp_path / "annotations/instances_train.json").read_text())
    for augment in (True, False):
        found = build_rtdetr_dataset(validator.args, data["train"], data, 2, "train" if augment else "val")
        for i, label in enumerate(found.labels):
            name = Path(label["im_file"]).name
            image = next(image["id"] for image in table["images"] if image["file_name"] == name)
            rows = [a for a in table["annotations"] if a["image_id"] == image]
            assert len(label["cls"]) == sum(not a["iscrowd"] for a in rows) and len(label["truth"]) == len(rows)
            sample = found[i]
            assert ("truth" in sample) is not augment  # what is warped can be compared with nothing
            if not augment:
                assert len(sample["bboxes"]) == len(label["cls"])
        batch = found.collate_fn([found[0], found[3]])
        assert augment or [len(t) for t in batch["truth"]] == [len(found.labels[i]["truth"]) for i in (0, 3)]
    assert len(found.labels) == 7 and len(found.labels[3]["cls"]) == 0 and found.labels[3]["truth"][:, 6].all()


def test_a_set_of_crowds_alone(tmp_path: Path) -> None:
    yaml = coco_set(tmp_path, 1)
    file = tmp_path / "annotations/instances_val.json"
    table = json.loads(file.read_text())
    table["annotations"] = [a for a in table["annotations"] if a["iscrowd"]]
    file.write_text(json.dumps(table))
    metrics = validate(yaml, answers(tmp_path, 1), tmp_path)
    np.testing.assert_array_equal(list(metrics.coco_stats.values()), [-1.0] * 12)
    assert metrics.fitness == 0 and metrics.nt_per_class.sum() == 0
    assert metrics.tables()["sizes"].records()[0]["boxes"] == 0


def test_class_filter_and_single_class(tmp_path: Path) -> None:
    yaml = coco_set(tmp_path, 2)
    file = tmp_path / "annotations/instances_val.json"
    table = json.loads(file.read_text())
    metrics = validate(yaml, answers(tmp_path, 2), tmp_path, classes=[1])
    rows = [r for r in json.loads((tmp_path / "val/predictions.json").read_text()) if r["category_id"] == 90]
    dogs = tmp_path / "dogs.json"
    dogs.write_text(json.dumps({**table, "annotations": [a for a in table["annotations"] if a["category_id"] == 90]}))
    np.testing.assert_allclose(list(metrics.coco_stats.values()), published(dogs, rows), atol=1e-9)
    metrics = validate(yaml, answers(tmp_path, 2), tmp_path, single_cls=True, save_json=False)
    one = tmp_path / "one.json"
    one.write_text(json.dumps({**table, "annotations": [{**a, "category_id": 3} for a in table["annotations"]]}))
    ids = {image["file_name"]: image["id"] for image in table["images"]}
    rows = [
        {"image_id": ids[Path(s["im_name"]).name], "category_id": 3, "score": float(score),
         "bbox": [float(b[0]), float(b[1]), float(b[2] - b[0]), float(b[3] - b[1])]}
        for s in metrics.stats for b, score in zip(s["pred_boxes"], s["conf"], strict=True)
    ]  # fmt: skip
    np.testing.assert_allclose(list(metrics.coco_stats.values()), published(one, rows), atol=1e-9)


def test_a_resized_copy_of_the_images_has_areas_of_its_own_pixels(tmp_path: Path) -> None:
    yaml = coco_set(tmp_path, 3)
    for file in (tmp_path / "images").rglob("*.png"):
        image = cv2.imread(str(file))
        cv2.imwrite(str(file), cv2.resize(image, None, fx=2, fy=2))
    table = json.loads((tmp_path / "annotations/instances_val.json").read_text())
    for row in table["annotations"]:
        row.update(bbox=[2 * v for v in row["bbox"]], area=4 * row["area"])
    double = tmp_path / "double.json"
    double.write_text(json.dumps(table))
    metrics = validate(yaml, answers(tmp_path, 3), tmp_path)
    want = published(double, tmp_path / "val/predictions.json")
    np.testing.assert_allclose(list(metrics.coco_stats.values()), want, atol=1e-9)


def test_conversion_from_coco_to_coco_keeps_crowds_and_areas(tmp_path: Path) -> None:
    yaml = coco_set(tmp_path / "a", 0)
    again = convert(yaml, "coco", tmp_path / "b")
    found = answers(tmp_path / "a", 0)
    want, got = (list(validate(y, found, tmp_path).coco_stats.values()) for y in (yaml, again))
    np.testing.assert_allclose(got, want, atol=1e-9)
    first, second = (json.loads((y.parent / "annotations/instances_val.json").read_text()) for y in (yaml, again))

    def cells(table: dict[str, Any]) -> list[tuple[Any, ...]]:
        name = {image["id"]: image["file_name"] for image in table["images"]}
        rows = table["annotations"]
        return sorted((name[a["image_id"]], round(a["area"], 2), a["iscrowd"], *np.round(a["bbox"], 2)) for a in rows)

    np.testing.assert_equal(cells(second), cells(first))
    plain = convert(yaml, "yolo", tmp_path / "c")
    lines = sum(len(f.read_text().splitlines()) for f in (plain.parent / "labels/val").glob("*.txt"))
    assert lines == sum(not a["iscrowd"] for a in first["annotations"])  # YOLO's form has no place for crowds


def test_data_in_other_forms_have_no_truth(tmp_path: Path) -> None:
    yaml = convert(coco_set(tmp_path / "a", 0), "voc", tmp_path / "b")
    validator = OracleValidator(args={"data": str(yaml), "imgsz": 64, "workers": 0, "mode": "val"})
    data = validator.get_dataset(str(yaml))
    found = build_rtdetr_dataset(validator.args, data["val"], data, 2, "val")
    assert "truth" not in found[0] and all("truth" not in label for label in found.labels)
    assert validator.annotations is None
    assert isinstance(validator.args, IterableSimpleNamespace)
