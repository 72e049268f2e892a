"""COCO files: what real ones hold, and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.data.sets import data_dict, write_set
from ultralytics.data.build import build_yolo_dataset
from ultralytics.data.convert import read_split
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.formats import CocoReader, Split, open_reader
from ultralytics.data.formats.coco import category_names, join_outlines, load_coco, match_categories
from ultralytics.data.utils import check_det_dataset, list_images
from ultralytics.utils.errors import DatasetError

NAMES = {0: "a", 1: "b", 2: "c"}
CATEGORIES = [{"id": 90, "name": "A "}, {"id": 3, "name": "c"}, {"id": 17, "name": "b"}, {"id": 50, "name": "dog"}]


def content(annotations: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Return a file about two 64 x 48 images with the annotations, each for image 5 unless it says otherwise."""
    images = [
        {"id": 5, "file_name": "x.png", "width": 64, "height": 48},
        {"id": 9, "file_name": "sub/y.png", "width": 64, "height": 48},
    ]
    rows = [
        {"id": i, "image_id": 5, "category_id": 17, "bbox": [16, 12, 32, 24], **a} for i, a in enumerate(annotations)
    ]
    return {"images": images, "categories": CATEGORIES, "annotations": rows, **more}


def scan(root: Path, table: dict[str, Any]) -> Any:
    write_set(root, {"x": None})
    (root / "images/train/sub").mkdir(exist_ok=True)
    write_set(root, {"sub/y": None})
    file = root / "a.json"
    file.write_text(json.dumps(table), encoding="utf-8")
    folder = str(root / "images" / "train")
    return CocoReader(Split(folder, list_images(folder), NAMES), file).scan()


def test_categories_with_gaps_and_backgrounds(tmp_path: Path) -> None:
    got = scan(
        tmp_path, content([{}, {"category_id": 90, "bbox": [0, 0, 64, 48]}, {"category_id": 3, "bbox": [1, 2, 3, 4]}])
    )
    by_name = {Path(d["im_file"]).name: d for d in got.labels}
    assert by_name["x.png"]["cls"].ravel().tolist() == [1, 0, 2] and len(by_name["y.png"]["cls"]) == 0
    want = [[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 1, 1], [2.5 / 64, 4 / 48, 3 / 64, 4 / 48]]
    np.testing.assert_allclose(by_name["x.png"]["bboxes"], want, atol=1e-7)
    assert not got.issues and got.counts["found"] == 1 and got.counts["missing"] == 1


@pytest.mark.parametrize(
    ("annotation", "kind", "fatal"),
    [
        ({"iscrowd": 1}, "crowd", False),
        ({"iscrowd": "1"}, "crowd", False),
        ({"ignore": 1}, "crowd", False),
        ({"category_id": 50}, "class", True),
        ({"category_id": 51}, "category", False),
        ({"image_id": 77}, "category", False),
        ({"bbox": [1, 2, 3]}, "columns", True),
        ({"bbox": None}, "columns", True),
        ({"bbox": [1, 2, "3", 4]}, "number", False),
        ({"bbox": [1, 2, float("nan"), 4]}, "number", False),
        ({"bbox": [10, 10, -5, 8]}, "negative", True),
        ({"bbox": [10, 10, 0, 8]}, "area", False),
        ({"bbox": [60, 10, 64, 8]}, "outside", False),
        ({"bbox": [1000, 1000, 500, 500]}, "percent", False),
        ({"bbox": [16, 12, 30, 20]}, "duplicate", False),
    ],
)
def test_bad_annotations_are_named_and_their_neighbours_stay(
    tmp_path: Path, annotation: dict[str, Any], kind: str, fatal: bool
) -> None:
    got = scan(tmp_path, content([{"bbox": [16, 12, 30, 20]}, annotation, {"bbox": [2, 2, 20, 20]}]))
    assert [(i.kind, i.fatal) for i in got.issues] == [(kind, fatal)] and "a.json" in str(got.issues[0])
    assert "1" in got.issues[0].reason
    assert sorted(len(d["cls"]) for d in got.labels) == [0, 2]


def test_images_on_one_side_only_are_listed(tmp_path: Path) -> None:
    table = content([{}])
    table["images"][0]["file_name"] = "gone.png"
    got = scan(tmp_path, table)
    assert sorted(i.kind for i in got.issues) == ["missing", "unlisted"]
    assert [Path(d["im_file"]).name for d in got.labels] == ["y.png"]


@pytest.mark.parametrize("flag", ["0", "false", "", 0, None])
def test_flags_written_as_strings(tmp_path: Path, flag: object) -> None:
    got = scan(tmp_path, content([{"iscrowd": flag, "ignore": flag}]))
    assert not got.issues and sorted(len(d["cls"]) for d in got.labels) == [0, 1]


def test_a_crowd_alone_leaves_a_background(tmp_path: Path) -> None:
    got = scan(tmp_path, content([{"iscrowd": 1, "segmentation": {"counts": "abc", "size": [48, 64]}}]))
    assert len(got.labels) == 2 and [i.kind for i in got.issues] == ["crowd"]


@pytest.mark.parametrize(
    ("size", "good"), [((128, 96), True), ((0, 0), True), ((64.4, 48.3), True), ((48, 64), False), ((100, 40), False)]
)
def test_boxes_are_for_the_noted_size(tmp_path: Path, size: tuple[float, float], good: bool) -> None:
    table = content([{"bbox": [0, 0, 32, 24]}])
    table["images"][0].update(width=size[0], height=size[1])
    got = scan(tmp_path, table)
    if not good:
        assert [i.kind for i in got.issues] == ["size"] and len(got.labels) == 1
    else:
        scale = size[0] / 64 if size[0] else 1
        np.testing.assert_allclose(got.labels[1]["bboxes"][0, 2:] * scale, 0.5, atol=1e-6)


def test_outlines_of_several_parts_are_joined(tmp_path: Path) -> None:
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    assert len(join_outlines([])) == 0 and join_outlines([square]) is square
    joined = join_outlines([square, square + 3])
    x, y = joined.T
    assert abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2 == pytest.approx(2.0), (
        "the bridges add no area"
    )
    parts = [[16, 12, 30, 12, 30, 36], [32, 12, 48, 12, 48, 36]]
    got = scan(tmp_path, content([{"segmentation": parts}]))
    polygon = next(d["segments"] for d in got.labels if d["segments"])[0] * (64, 48)
    np.testing.assert_allclose([polygon.min(0), polygon.max(0)], [[16, 12], [48, 36]], atol=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not well-formed JSON"),
        ('{"images": [\n{', "a.json:2: not well-formed JSON"),
        ("[]", "no table 'images'"),
        ('{"images": []}', "no table 'categories'"),
        ('{"images": [], "categories": [1], "annotations": []}', "no table 'categories'"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_files_that_are_no_annotations(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        load_coco(file)
    with pytest.raises(DatasetError, match="cannot be read"):
        load_coco(tmp_path / "none.json")


def test_names_follow_the_ids(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content([])), encoding="utf-8")
    assert category_names(file) == {0: "c", 1: "b", 2: "dog", 3: "A "}
    assert match_categories([], NAMES) == {} and match_categories(CATEGORIES, NAMES) == {90: 0, 3: 2, 17: 1, 50: -1}


def test_the_cache_follows_the_file_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan(tmp_path, content([{}]))
    data = {**data_dict(tmp_path), "format": "coco", "train": str(tmp_path / "images/train")}
    data["annotations"] = {"train": str(tmp_path / "a.json")}

    def boxes(names: dict[int, str] = NAMES) -> list[float]:
        found = YOLODataset(data["train"], imgsz=32, augment=False, data={**data, "names": names})
        assert found.cache_path.exists() and found.cache_path.parent == tmp_path
        return [float(c) for d in found.labels for c in d["cls"].ravel()]

    assert boxes() == [1.0]
    monkeypatch.setattr(CocoReader, "_read", lambda self: pytest.fail("the JSON was opened"))
    assert boxes() == [1.0]
    monkeypatch.undo()
    assert boxes({0: "b", 1: "a", 2: "c"}) == [0.0]
    (tmp_path / "a.json").write_text(json.dumps(content([{}, {"bbox": [1, 1, 9, 9]}])), encoding="utf-8")
    assert boxes() == [1.0, 1.0]


def test_missing_files_are_errors_of_the_yaml(tmp_path: Path) -> None:
    write_set(tmp_path, {"x": None})
    yaml = tmp_path / "data.yaml"
    head = "train: images/train\nval: images/train\nnames: [a]\n"
    for text, message in (
        ("annotations: {train: no.json}\n", "data.yaml:4: annotations: .*no.json does not exist"),
        ("format: coco\n", "data.yaml:4: format: coco needs a JSON"),
        ("format: csv\n", "yolo, coco, voc"),
    ):
        yaml.write_text(head + text, encoding="utf-8")
        with pytest.raises(DatasetError, match=message):
            check_det_dataset(yaml)
    with pytest.raises(DatasetError, match="no JSON file for these images"):
        open_reader({"format": "coco", "names": NAMES}, "images/train", [])


def test_one_file_for_all_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_set(tmp_path, {f"{split}1": None}, split)
    images = [{"id": i, "file_name": f"{s}1.png", "width": 64, "height": 48} for i, s in enumerate(("train", "val"))]
    table = {"images": images, "categories": CATEGORIES, "annotations": []}
    table["annotations"] = [{"id": 1, "image_id": 1, "category_id": 17, "bbox": [1, 1, 9, 9]}]
    (tmp_path / "all.json").write_text(json.dumps(table), encoding="utf-8")
    yaml = tmp_path / "data.yaml"
    yaml.write_text("train: images/train\nval: images/val\nnames: [a, b, c]\nannotations: all.json\n", encoding="utf-8")
    data = check_det_dataset(yaml)
    found = {s: open_reader(data, data[s], list_images(data[s])).scan() for s in ("train", "val")}
    assert not found["train"].issues and not found["val"].issues
    assert [len(found[s].labels[0]["cls"]) for s in found] == [0, 1]


def two_files(root: Path, train: list[str], val: list[str], total: int = 5) -> dict[str, Any]:
    """Write one image folder with a JSON file for each split, whose boxes differ; return the checked YAML."""
    write_set(root, {str(i): None for i in range(total)}, "all")
    for split, names, side in (("train", train, 8), ("val", val, 20)):
        images = [{"id": i, "file_name": f"{n}.png", "width": 64, "height": 48} for i, n in enumerate(names)]
        rows = [{"id": i, "image_id": i, "category_id": 17, "bbox": [4, 4, side, side]} for i in range(len(names))]
        table = {"images": images, "categories": CATEGORIES, "annotations": rows}
        (root / f"{split}.json").write_text(json.dumps(table), encoding="utf-8")
    (root / "data.yaml").write_text(
        "train: images/all\nval: images/all\nnames: [a, b, c]\nannotations: {train: train.json, val: val.json}\n"
    )
    return check_det_dataset(root / "data.yaml")


def test_splits_of_one_folder_have_a_file_each(tmp_path: Path) -> None:
    data = two_files(tmp_path, ["0", "1", "2"], ["3", "4"], total=6)
    for _ in range(2):  # from the files, and from the cache
        for mode, names, side in (("train", "012", 8), ("val", "34", 20)):
            cfg = SimpleNamespace(imgsz=64, split="val")
            found = build_yolo_dataset(cfg, data[mode], 2, data, mode)
            assert [Path(f).stem for f in found.im_files] == list(names)
            np.testing.assert_allclose(found.labels.bboxes.values[:, 2] * 64, side, rtol=1e-6)
            assert [(Path(i.file).stem, i.kind) for i in found.report] == [("5", "unlisted")]
    assert len(found) == 2 and not read_split(data, "val").labels[0]["cls"].any() - 1
    (tmp_path / "train.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DatasetError, match="no table 'images'"):
        build_yolo_dataset(cfg, data["train"], 2, data, "train")


def test_an_image_without_an_entry_gets_no_labels_of_another(tmp_path: Path) -> None:
    for name in ("one/a", "two/a", "b", "one/b"):
        (tmp_path / "images/train" / name).parent.mkdir(parents=True, exist_ok=True)
        write_set(tmp_path, {"x": None})
        (tmp_path / "images/train/x.png").rename(tmp_path / f"images/train/{name}.png")
    names = ["two/a.png", "b.png", "one/b.png", "b.png"]  # the root's image is listed twice
    images = [{"id": i, "file_name": n, "width": 64, "height": 48} for i, n in enumerate(names)]
    rows = [{"id": i, "image_id": i, "category_id": 17, "bbox": [i, 4, 5 + i, 9]} for i in range(4)]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "categories": CATEGORIES, "annotations": rows}))
    folder = str(tmp_path / "images/train")
    got = CocoReader(Split(folder, list_images(folder), NAMES), tmp_path / "a.json").scan()
    widths = {d["im_file"][len(folder) + 1 :]: np.round(d["bboxes"][:, 2] * 64).tolist() for d in got.labels}
    assert widths == {"b.png": [6, 8], "one/b.png": [7], "two/a.png": [5]}
    assert [(i.kind, Path(i.file).name) for i in got.issues] == [("unlisted", "a.png"), ("listed", "a.json")]
    assert "'b.png' is listed as id 1 and as id 3" in got.issues[1].reason


def test_one_id_for_two_images_is_reported(tmp_path: Path) -> None:
    table = content([{}])
    table["images"][1]["id"] = 5
    got = scan(tmp_path, table)
    assert [i.kind for i in got.issues] == ["unlisted", "listed"] and "image id 5 of 'sub/y.png'" in str(got.issues[1])
    assert [Path(d["im_file"]).name for d in got.labels] == ["x.png"]


def test_categories_of_one_name_are_distinguished_by_id_or_reported(tmp_path: Path) -> None:
    """Without names in the YAML each category is a class; a YAML with fewer names merges some, and says so."""
    write_set(tmp_path, {"x": None})
    images = [{"id": 1, "file_name": "x.png", "width": 64, "height": 48}]
    categories = [{"id": i, "name": n} for i, n in ((9, "x"), (5, "x"), (7, "X"))]
    rows = [{"id": i, "image_id": 1, "category_id": i, "bbox": [i, 4, 9, 9]} for i in (9, 5, 7)]
    table = {"images": images, "categories": categories, "annotations": rows}
    (tmp_path / "a.json").write_text(json.dumps(table), encoding="utf-8")
    for names, classes, findings in (
        ("", [2, 0, 1], []),
        ("names: [x, X, x]\n", [2, 0, 1], []),
        ("names: [x]\n", [0, 0, 0], ["categories 5, 7, 9 all become class 0 'x'"]),
        ("names: [X, x]\n", [1, 1, 0], ["categories 5, 9 all become class 1 'x'"]),
        ("names: [X, X, x]\n", [2, 2, 0], ["class 1 has the name 'X' of class 0", "categories 5, 9"]),
    ):
        text = f"train: images/train\nval: images/train\nannotations: a.json\n{names}"
        (tmp_path / "data.yaml").write_text(text, encoding="utf-8")
        data = check_det_dataset(tmp_path / "data.yaml")
        found = YOLODataset(data["train"], data=data, imgsz=32, hyp={})
        assert found.labels[0]["cls"].ravel().tolist() == classes
        assert [i.kind for i in found.report] == ["merged"] * len(findings)
        assert all(text in i.reason for text, i in zip(findings, found.report, strict=True))


def test_ids_may_be_strings_in_one_table_and_numbers_in_another(tmp_path: Path) -> None:
    table = content([{"image_id": "5", "category_id": "17"}])
    got = scan(tmp_path, table)
    by_name = {Path(d["im_file"]).name: d for d in got.labels}
    assert by_name["x.png"]["cls"].ravel().tolist() == [1] and not got.issues


@pytest.mark.parametrize(
    "damage",
    [
        {"image_id": [5]},
        {"image_id": {"a": 1}},
        {"category_id": [17]},
        {"category_id": 10**400},
        {"bbox": [10**400, 1, 2, 3]},
        {"segmentation": [[10**400, 1, 2, 3, 4, 5]], "bbox": [1, 1, 5, 5]},
        {"area": 10**400},
    ],
)
def test_values_of_any_type_damage_one_annotation_alone(tmp_path: Path, damage: dict[str, Any]) -> None:
    got = scan(tmp_path, content([{}, damage]))
    assert next(len(d["cls"]) for d in got.labels if d["im_file"].endswith("x.png")) >= 1
