"""Zoom-out and crops in a data set: they see the whole image, and stay a function of seed, epoch and index."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.data.sets import data_dict, hyp, make_set
from ultralytics.data import YOLODataset

CROPS = {"zoom_out": 0.5, "iou_crop": 0.8, "photometric": 0.5}


def dataset(folder: Path, letterbox: bool, **changes: object) -> YOLODataset:
    rates = hyp(**CROPS, mosaic=0.3)
    options = {"imgsz": 32, "data": data_dict(folder), "hyp": rates, "letterbox": letterbox, "seed": 3, **changes}
    return YOLODataset(str(folder / "images" / "train"), **options)


@pytest.mark.parametrize("letterbox", [False, True])
def test_samples_are_reproducible_and_fit(tmp_path: Path, letterbox: bool) -> None:
    make_set(tmp_path, 6, h=90, w=140)
    first, again = dataset(tmp_path, letterbox), dataset(tmp_path, letterbox)
    assert first.full_size
    for key in ((0, 1), (0, 5), (4, 5)):
        torch.manual_seed(key[1])
        a, b = first[key], again[key]
        assert a["img"].shape == (3, 32, 32) and torch.equal(a["img"], b["img"])
        assert torch.equal(a["bboxes"], b["bboxes"]) and (a["bboxes"] >= 0).all() and (a["bboxes"] <= 1).all()
    assert not torch.equal(first[0, 5]["img"], first[4, 5]["img"])


def test_a_cache_or_no_crops_keep_the_resized_image(tmp_path: Path) -> None:
    make_set(tmp_path, 4)
    assert not dataset(tmp_path, False, cache="ram").full_size
    assert not dataset(tmp_path, False, augment=False).full_size
    plain = YOLODataset(str(tmp_path / "images/train"), imgsz=32, data=data_dict(tmp_path), hyp=hyp(), letterbox=False)
    assert not plain.full_size
    never = hyp(zoom_out=1e-9, scale=0.0)
    same = YOLODataset(str(tmp_path / "images/train"), imgsz=32, data=data_dict(tmp_path), hyp=never, letterbox=False)
    assert same.full_size and torch.equal(same[2]["img"], plain[2]["img"]), (
        "stretched late, stretched early: one picture"
    )


@pytest.mark.parametrize("letterbox", [False, True])
def test_the_last_epochs_see_whole_images(tmp_path: Path, letterbox: bool) -> None:
    make_set(tmp_path, 3, h=90, w=140)
    still = {"scale": 0.0, "translate": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "fliplr": 0.0}
    cropped = dataset(tmp_path, letterbox, hyp=hyp(**CROPS, mosaic=0.3, mixup=1.0, **still))
    whole = dataset(tmp_path, letterbox, hyp=hyp(**still))
    assert not torch.equal(cropped[7, 1]["img"], whole[7, 1]["img"])
    cropped.close_mosaic()
    for key in ((8, 0), (8, 2)):
        assert torch.equal(cropped[key]["img"], whole[key]["img"])
        assert torch.equal(cropped[key]["bboxes"], whole[key]["bboxes"])


def test_strict_is_an_argument(tmp_path: Path) -> None:
    from tests.data.sets import write_set
    from ultralytics.cfg import get_cfg
    from ultralytics.data import build_yolo_dataset
    from ultralytics.utils.errors import DatasetError

    folder = write_set(tmp_path, {"x": "0 .5 .5 .2 .2\n7 .5 .5 .2 .2\n"})
    with pytest.raises(DatasetError, match="class 7"):
        build_yolo_dataset(get_cfg(overrides={"imgsz": 32}), str(folder), 1, data_dict(tmp_path))
    found = build_yolo_dataset(get_cfg(overrides={"imgsz": 32, "strict": False}), str(folder), 1, data_dict(tmp_path))
    assert len(found.labels[0]["cls"]) == 1
