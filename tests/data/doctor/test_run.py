"""The whole report: verdict, numbers, JSON, page; duplicates and suggestions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.data.damage import _scene
from tests.data.sets import write_set
from tests.utils.plotting.svg import figure_texts
from ultralytics.data.convert import convert
from ultralytics.data.doctor import plots
from ultralytics.data.doctor.duplicates import NEAR, near_pairs, same_content
from ultralytics.data.doctor.finding import Finding
from ultralytics.data.doctor.numbers import suggest_imgsz
from ultralytics.data.doctor.objects import count_overlapping
from ultralytics.data.doctor.run import doctor, examine_surveys
from ultralytics.data.doctor.survey import ImageProperties, Survey, fingerprint, survey
from ultralytics.data.labels.parse import Scan
from ultralytics.data.utils import check_det_dataset
from ultralytics.utils.errors import ConfigError, NotFoundError


def good_set(root: Path, names: str = "[a, b]") -> Path:
    for split, first in (("train", 0), ("val", 50)):
        folder = write_set(root, {f"{split}{i}": f"{i % 2} .5 .5 .4 .5\n0 .2 .2 .1 .2\n" for i in range(4)}, split)
        for i in range(4):
            cv2.imwrite(str(folder / f"{split}{i}.png"), _scene(first + i))
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: {names}\n", encoding="utf-8")
    return root / "data.yaml"


def findings(yaml: Path) -> list[Finding]:
    """Return what the doctor finds, without its pictures."""
    data = check_det_dataset(yaml)
    return examine_surveys([survey(data, split) for split in ("train", "val")], data, queries=300, imgsz=320)


def test_a_good_set_is_safe_in_every_form(tmp_path: Path) -> None:
    yaml = good_set(tmp_path / "yolo")
    for form in ("yolo", "coco", "voc"):
        path = yaml if form == "yolo" else convert(yaml, form, tmp_path / form)
        if form != "yolo":
            assert findings(path) == []
            continue
        report = doctor(path, imgsz=320, save_dir=tmp_path / f"report_{form}", verbose=False)
        assert report.safe and not report.findings, report.findings
        content = json.loads((report.save_dir / "doctor.json").read_text(encoding="utf-8"))
        assert content["format"] == form and content["safe"] and content["findings"] == []
        train = content["splits"]["train"]
        assert (train["images"], train["usable"], train["objects"]) == (4, 4, 8)
        assert train["classes"] == {"a": 6, "b": 2} and train["objects_per_image"]["max"] == 2
        assert train["side_px"]["p95"] == pytest.approx(128) and train["by_stride"] == {"8": 0, "16": 0, "32": 0}
        page = (report.save_dir / "doctor.html").read_text(encoding="utf-8")
        assert "safe to train" in page and page.count("data:image/png;base64,") == 4
        assert not re.search(r'(src|href)="(?!data:)', page) and "<script" not in page


def test_class_names_in_the_charts_are_drawn_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = check_det_dataset(good_set(tmp_path, '["price $5_$10", _dog]'))
    surveys, seen = [survey(data, split) for split in ("train", "val")], []
    png = plots._png
    monkeypatch.setattr(plots, "_png", lambda figure: seen.append(figure_texts(figure)) or png(figure))
    plots.charts(surveys, data["names"], queries=300, imgsz=320)
    assert [w for w in seen[0] if not w.isdigit()] == ["price $5_$10", "_dog", "objects", "train", "val"]


def test_the_page_shows_the_images_of_a_finding(tmp_path: Path) -> None:
    yaml = good_set(tmp_path)
    (tmp_path / "labels/train/train1.txt").write_text("5 .5 .5 .2 .2\n0 .5 .5 .2 .2\n", encoding="utf-8")
    report = doctor(yaml, save_dir=tmp_path / "report", verbose=False)
    page = (report.save_dir / "doctor.html").read_text(encoding="utf-8")
    assert not report.safe and "not safe" in page and page.count("data:image/jpeg;base64,") == 1
    assert "train1.txt:1: class 5" in page


@pytest.mark.parametrize(
    ("names", "found"),
    [("[a, b, c]", [("absent", "warning")]), ("[a, A]", [("names", "warning")]), ("{0: a, 1: b}", [])],
)
def test_classes_are_held_against_the_names(tmp_path: Path, names: str, found: list[tuple[str, str]]) -> None:
    assert [(f.code, f.severity) for f in findings(good_set(tmp_path, names))] == found


def test_a_class_that_is_only_validated_is_an_error(tmp_path: Path) -> None:
    yaml = good_set(tmp_path, "[a, b, c]")
    (tmp_path / "labels/val/val0.txt").write_text("2 .5 .5 .2 .2", encoding="utf-8")
    assert [(f.code, f.severity) for f in findings(yaml)] == [("unseen", "error"), ("absent", "warning")]


def test_splits_that_cannot_be_read_are_findings(tmp_path: Path) -> None:
    coco = convert(good_set(tmp_path / "a"), "coco", tmp_path / "b")
    (tmp_path / "b/annotations/instances_train.json").write_text("{", encoding="utf-8")
    stopped = next(f for f in findings(coco) if f.code == "stopped")
    assert stopped.severity == "error" and "instances_train.json:1" in stopped.examples[0]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        doctor(tmp_path / "none.yaml")
    for options in ({"imgsz": 0}, {"queries": 0}, {"imgsz": "big"}):
        with pytest.raises(ConfigError, match="integer"):
            doctor(good_set(tmp_path), **options)


# ---- duplicates ----


def image_file(name: str, bits: np.ndarray | None, digest: str = "") -> ImageProperties:
    return ImageProperties(name, digest or name, bits, spread=9.0, kind="PNG")


def test_near_pairs_against_all_pairs() -> None:
    """The search by bands finds what comparing every pair finds."""
    rng = np.random.default_rng(2)
    rows = [rng.random(256) < 0.5 for _ in range(40)]
    for i in range(20):
        copy = rows[i].copy()
        copy[rng.choice(256, i, replace=False)] ^= True  # 0 to 19 bits differ
        rows.append(copy)
    found = near_pairs([image_file(str(i), row) for i, row in enumerate(rows)])
    want = [(a, b) for b in range(60) for a in range(b) if (rows[a] != rows[b]).sum() <= NEAR]
    assert sorted((int(a), int(b)) for a, b in found) == sorted(want) and len(want) == NEAR + 1
    assert near_pairs([]) == [] and near_pairs([image_file("a", None), image_file("b", rows[0])]) == []


def test_fingerprints_survive_size_and_compression_but_not_another_picture() -> None:
    for seed in range(6):
        picture = cv2.cvtColor(cv2.resize(_scene(seed), (400, 300)), cv2.COLOR_BGR2GRAY)
        packed = cv2.imdecode(cv2.imencode(".jpg", cv2.resize(picture, (200, 150)))[1], 0)
        other = cv2.cvtColor(_scene(seed + 50), cv2.COLOR_BGR2GRAY)
        assert (fingerprint(picture) != fingerprint(packed)).sum() <= NEAR
        assert (fingerprint(picture) != fingerprint(other)).sum() > 60


def test_same_content_names_each_later_file_once() -> None:
    rows = [
        image_file("a", None, "x"),
        image_file("b", None, "x"),
        image_file("c", None, "x"),
        image_file("d", None, "y"),
    ]
    assert same_content(rows, rows) == [("a", "b"), ("a", "c")]
    assert same_content(rows[:1], rows[2:]) == [("a", "c")] and same_content([], rows) == []


# ---- numbers ----


@pytest.mark.parametrize(
    ("sides", "shape", "size"),
    [
        ([], (480, 640), 640),
        ([0.5] * 20, (480, 640), 320),
        ([0.025] * 20, (1080, 1920), 640),
        ([0.01] * 20, (1080, 1920), 1280),
        ([0.01] * 20, (300, 400), 448),
        ([0.01] + [0.5] * 99, (480, 640), 320),
    ],
)
def test_the_suggested_size_shows_nearly_all_boxes(sides: list[float], shape: tuple[int, int], size: int) -> None:
    boxes = np.array([[0.5, 0.5, s, s] for s in sides], np.float32).reshape(-1, 4)
    label = {"bboxes": boxes, "shape": shape, "cls": np.zeros((len(boxes), 1))}
    assert suggest_imgsz([Survey("train", "", scan=Scan([label], [], {}))])[0] == size
    assert suggest_imgsz([])[0] == 640


def test_overlapping_boxes_of_one_class() -> None:
    boxes = np.array([[0.5, 0.5, 0.4, 0.4], [0.501, 0.5, 0.4, 0.4], [0.5, 0.5, 0.2, 0.2]], np.float32)
    assert count_overlapping(boxes, np.zeros((3, 1))) == 1
    assert (
        count_overlapping(boxes, np.array([[0], [1], [0]])) == 0 and count_overlapping(boxes[:0], np.zeros((0, 1))) == 0
    )


def test_splits_of_one_folder_share_only_what_both_files_list(tmp_path: Path) -> None:
    folder = write_set(tmp_path, dict.fromkeys("abcde"), "all")
    for i, name in enumerate("abcde"):
        cv2.imwrite(str(folder / f"{name}.png"), _scene(i))

    def codes(train: str, val: str) -> set[str]:
        for split, names in (("train", train), ("val", val)):
            images = [{"id": i, "file_name": f"{n}.png", "width": 640, "height": 480} for i, n in enumerate(names)]
            for image in images:
                image["height"], image["width"] = cv2.imread(str(folder / image["file_name"])).shape[:2]
            rows = [{"id": i, "image_id": i, "category_id": 1, "bbox": [20, 20, 40, 50]} for i in range(len(names))]
            table = {"images": images, "categories": [{"id": 1, "name": "x"}], "annotations": rows}
            (tmp_path / f"{split}.json").write_text(json.dumps(table), encoding="utf-8")
        yaml = tmp_path / "data.yaml"
        text = "train: images/all\nval: images/all\nnames: [x]\nannotations: {train: train.json, val: val.json}\n"
        yaml.write_text(text, encoding="utf-8")
        return {f.code for f in findings(yaml)}

    assert codes("abc", "de") == set()
    assert codes("abc", "d") == {"unlisted"}  # the fifth is in neither
    assert codes("abc", "cd") == {"unlisted", "leak"}
