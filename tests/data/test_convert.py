"""The same images in YOLO, COCO and VOC form."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.data.formats.sets import CLASSES, yolo_set
from tests.data.sets import hyp, write_set
from ultralytics.data import YOLODataset, build_dataloader
from ultralytics.data.convert import convert
from ultralytics.data.utils import check_det_dataset
from ultralytics.utils.errors import ConfigError, DatasetError

FORMS = ("yolo", "coco", "voc")
AUGMENTED = {"mosaic": 0.5, "mixup": 0.3, "translate": 0.1, "scale": 0.3, "hsv_s": 0.5, "fliplr": 0.5, "degrees": 9}


def dataset(yaml: Path, split: str = "train", augment: bool = False, **changes: float) -> YOLODataset:
    data = check_det_dataset(yaml)
    return YOLODataset(data[split], imgsz=64, augment=augment, hyp=hyp(**changes), data=data)


def boxes(yaml: Path, split: str = "train") -> dict[str, np.ndarray]:
    """Return class and box rows by image name."""
    found = dataset(yaml, split).labels
    return {Path(d["im_file"]).name: np.concatenate([d["cls"], d["bboxes"]], 1) for d in found}


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the YAMLs of one set in three forms; VOC is made from COCO."""
    root = tmp_path_factory.mktemp("forms")
    made = {"yolo": yolo_set(root / "original")}
    made["coco"] = convert(made["yolo"], "coco", root / "coco")
    made["voc"] = convert(made["coco"], "voc", root / "voc", images="link")
    made["again"] = convert(made["voc"], "yolo", root / "again")
    return made


@pytest.mark.parametrize("form", ["coco", "voc", "again"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_the_same_boxes_in_every_form(forms: dict[str, Path], form: str, split: str) -> None:
    want, got = boxes(forms["yolo"], split), boxes(forms[form], split)
    assert set(got) == set(want) and sum(map(len, want.values())) > 0
    for name, rows in want.items():
        np.testing.assert_allclose(got[name], rows, atol=1e-6, rtol=0)


@pytest.mark.parametrize("form", ["coco", "voc", "again"])
def test_the_same_training_batches_under_one_seed(forms: dict[str, Path], form: str) -> None:
    batches = []
    for yaml in (forms["yolo"], forms[form]):
        loader = build_dataloader(dataset(yaml, augment=True, **AUGMENTED), 3, 0, seed=4)
        loader.sampler.set_epoch(2)
        batches.append(list(loader))
    for a, b in zip(*batches, strict=True):
        assert [Path(f).name for f in a["im_file"]] == [Path(f).name for f in b["im_file"]]
        assert torch.equal(a["img"], b["img"]) and torch.equal(a["cls"], b["cls"])
        assert torch.equal(a["batch_idx"], b["batch_idx"])
        torch.testing.assert_close(a["bboxes"], b["bboxes"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_a_single_class_takes_objects_of_any_name(forms: dict[str, Path], form: str) -> None:
    """A run with single_cls has one name in place of the data YAML's."""
    want = boxes(forms["yolo"])
    data = {**check_det_dataset(forms[form]), "names": {0: "item"}, "nc": 1}
    found = YOLODataset(data["train"], imgsz=64, augment=False, hyp={}, data=data, single_cls=True)
    assert not found.report and not found.labels.cls.values.any()
    for label in found.labels:
        np.testing.assert_allclose(label["bboxes"], want[Path(label["im_file"]).name][:, 1:], atol=1e-6)
        assert form != "coco" or (not label["truth"][:, 0].any() and len(label["truth"]) == len(label["cls"]))


def test_the_form_is_found_without_being_named(forms: dict[str, Path]) -> None:
    for form in FORMS:
        text = forms[form].read_text(encoding="utf-8")
        bare = "\n".join(line for line in text.splitlines() if not line.startswith("format"))
        other = forms[form].with_name("bare.yaml")
        other.write_text(bare, encoding="utf-8")
        assert check_det_dataset(other)["format"] == form
        other.unlink()


def test_a_coco_set_needs_no_names(forms: dict[str, Path]) -> None:
    text = "train: images/train\nval: images/val\n"
    yaml = forms["coco"].with_name("short.yaml")
    yaml.write_text(text, encoding="utf-8")
    data = check_det_dataset(yaml)
    assert data["format"] == "coco" and data["names"] == CLASSES
    yaml.unlink()


def test_a_voc_image_set_is_a_split(forms: dict[str, Path]) -> None:
    yaml = forms["voc"].with_name("sets.yaml")
    yaml.write_text(
        "train: ImageSets/Main/train.txt\nval: ImageSets/Main/val.txt\nnames: [red cell, Zelle ü, <&>]\n", "utf-8"
    )
    want, got = boxes(forms["voc"]), boxes(yaml)
    assert set(got) == set(want) and all(np.array_equal(got[k], want[k]) for k in want)
    yaml.unlink()


def test_polygons_survive(tmp_path: Path) -> None:
    first = yolo_set(tmp_path / "a", polygons=True)
    coco = convert(first, "coco", tmp_path / "b")
    again = convert(coco, "yolo", tmp_path / "c")
    want, got = (dataset(yaml, augment=True).labels for yaml in (first, again))
    assert sum(len(d["segments"]) for d in want) > 3
    for a, b in zip(want, got, strict=True):
        np.testing.assert_allclose(a["bboxes"], b["bboxes"], atol=1e-6)
        for p, q in zip(a["segments"], b["segments"], strict=True):
            np.testing.assert_allclose(p, q, atol=1e-6)


def test_images_may_stay_where_they_are(tmp_path: Path) -> None:
    first = yolo_set(tmp_path / "a")
    coco = convert(first, "coco", tmp_path / "b", images="none")
    assert not (tmp_path / "b" / "images").exists()
    assert {k: v.tolist() for k, v in boxes(coco).items()}.keys() == boxes(first).keys()
    for name, rows in boxes(first).items():
        np.testing.assert_allclose(boxes(coco)[name], rows, atol=1e-6)


def test_bad_rows_are_left_out_and_listed(tmp_path: Path) -> None:
    write_set(tmp_path / "a", {"x": "0 .5 .5 .2 .2\n7 .5 .5 .2 .2\n0 .5 .5 -1 .2\n"})
    write_set(tmp_path / "a", {"y": None}, "val")
    yaml = tmp_path / "a" / "data.yaml"
    yaml.write_text("train: images/train\nval: images/val\nnames: [a]\n", "utf-8")
    out = convert(yaml, "coco", tmp_path / "b")
    assert len(json.loads((tmp_path / "b/annotations/instances_train.json").read_text("utf-8"))["annotations"]) == 1
    report = (tmp_path / "b" / "convert_report.txt").read_text("utf-8")
    assert "x.txt:2: class 7" in report and "x.txt:3: negative" in report
    assert [len(v) for v in boxes(out).values()] == [1]


def test_two_images_of_one_stem_get_two_label_files(tmp_path: Path) -> None:
    first = yolo_set(tmp_path / "a", 2)
    coco = convert(first, "coco", tmp_path / "b")
    content = json.loads((tmp_path / "b/annotations/instances_train.json").read_text("utf-8"))
    listed = next(i for i in content["images"] if any(a["image_id"] == i["id"] for a in content["annotations"]))
    file = tmp_path / "b/images/train" / listed["file_name"]
    cv2.imencode(".bmp", np.zeros((48, 64, 3), np.uint8))[1].tofile(file.with_suffix(".bmp"))
    content["images"].append({**listed, "id": 99, "file_name": listed["file_name"].replace(".png", ".bmp")})
    (tmp_path / "b/annotations/instances_train.json").write_text(json.dumps(content), "utf-8")
    again = convert(coco, "yolo", tmp_path / "c")
    assert sorted(map(len, boxes(again).values())) == [0, 0, 1] and sorted(map(len, boxes(coco).values())) == [0, 0, 1]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"format": "csv"}, ConfigError, "yolo, coco, voc"),
        ({"images": "move"}, ConfigError, "copy, link, none"),
        ({"format": "voc", "images": "none"}, ConfigError, "images=link"),
        ({"save_dir": "."}, ConfigError, "not empty"),
    ],
)
def test_refusals_leave_nothing_behind(tmp_path: Path, options: dict, error: type[Exception], text: str) -> None:
    yaml = yolo_set(tmp_path / "a", 2)
    before = sorted(tmp_path.rglob("*"))
    arguments = {"format": "coco", "save_dir": tmp_path / "b", **options}
    if arguments["save_dir"] == ".":
        arguments["save_dir"] = tmp_path / "a"
    with pytest.raises(error, match=text):
        convert(yaml, **arguments)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unusable_split_leaves_nothing_behind(tmp_path: Path) -> None:
    yaml = yolo_set(tmp_path / "a", 2)
    for file in (tmp_path / "a/images/val").rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(DatasetError, match="none of 2 images"):
        convert(yaml, "coco", tmp_path / "b")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("folder", ["images", "JPEGImages"])
def test_sets_of_several_image_folders_keep_their_labels(tmp_path: Path, form: str, folder: str) -> None:
    """Below the folder that they share, the images' places hold a folder `images` each."""
    for place, rows in (("one", "0 .5 .5 .2 .25\n"), ("two/deep", "1 .5 .5 .5 .5\n2 .25 .25 .125 .25\n"), ("", None)):
        root = tmp_path / "a" / place
        write_set(root, {"x": rows, "y": rows}, "t")
        if folder == "JPEGImages":  # labels beside the images
            for file in (root / "labels/t").glob("*.txt"):
                file.rename(root / "images/t" / file.name)
        (root / "images").rename(root / folder)
    sources = f"[one/{folder}, two/deep/{folder}, {folder}/t]"
    yaml = tmp_path / "a" / "data.yaml"
    yaml.write_text(f"train: {sources}\nval: one/{folder}\nnames: [a, b, c]\n", "utf-8")

    def rows_of(file: Path) -> list[list[list[float]]]:
        found = dataset(file).labels
        return sorted(np.concatenate([d["cls"], d["bboxes"]], 1).round(5).tolist() for d in found)

    want = rows_of(yaml)
    assert sorted(map(len, want)) == [0, 0, 1, 1, 2, 2]
    got = convert(yaml, form, tmp_path / "b")
    assert sorted(map(len, rows_of(got))) == sorted(map(len, want))
    np.testing.assert_allclose([r for x in rows_of(got) for r in x], [r for x in want for r in x], atol=1e-5)


def test_no_two_images_come_to_one_place(tmp_path: Path) -> None:
    """A number behind a name that is taken may be another image's name already."""
    for place in ("images/images/x", "images/x", "images/images/x_2"):
        (tmp_path / "a/images/train" / place).mkdir(parents=True)
        write_set(tmp_path / "a", {f"{place}/x": None, f"{place}/x_2": None})
    write_set(tmp_path / "a", {"v": "0 .5 .5 .2 .2"}, "val")
    yaml = tmp_path / "a/data.yaml"
    yaml.write_text("train: images/train\nval: images/val\nnames: [a]\n", "utf-8")
    got = convert(yaml, "yolo", tmp_path / "b")
    assert len(list((got.parent / "images/train").rglob("*.png"))) == 6


@pytest.mark.parametrize("form", FORMS)
def test_classes_of_one_name_are_refused_where_names_distinguish_them(tmp_path: Path, form: str) -> None:
    write_set(tmp_path / "a", {"x": "0 .5 .5 .2 .2\n2 .3 .3 .2 .2\n"})
    yaml = tmp_path / "a/data.yaml"
    yaml.write_text("train: images/train\nval: images/train\nnames: [cat, Cat, cat]\n", "utf-8")
    if form == "yolo":
        assert boxes(convert(yaml, form, tmp_path / "b"))["x.png"][:, 0].tolist() == [0, 2]
        return
    with pytest.raises(DatasetError, match=r"a.data.yaml: names: classes 0 and 2 are both called 'cat'"):
        convert(yaml, form, tmp_path / "b")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
