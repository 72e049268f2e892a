"""The results of several images as one, and conversions to other libraries' forms."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ultralytics.engine.results.result_list import ResultList
from ultralytics.engine.results.results import Results
from ultralytics.utils.errors import ConfigError, MissingPackageError

NAMES = {0: "cat", 1: "dog"}
ROWS = torch.tensor([[10.0, 20.0, 40.0, 60.0, 0.9, 1.0], [0.0, 0.0, 5.5, 6.25, 0.123456, 0.0]])


def results(*counts: int) -> ResultList:
    image = np.zeros((100, 200, 3), np.uint8)
    return ResultList(Results(image, f"folder/{i}.jpg", NAMES, ROWS[:n]) for i, n in enumerate(counts))


def test_empty() -> None:
    none = ResultList()
    assert none == [] and json.loads(none.to_json()) == [] and len(none.to_df()) == 0
    assert none.to_coco() == {"images": [], "categories": [], "annotations": []}


def test_json_and_table() -> None:
    found = results(2, 0, 1)
    data = json.loads(found.tojson())
    assert [(d["path"], len(d["detections"])) for d in data] == [
        ("folder/0.jpg", 2),
        ("folder/1.jpg", 0),
        ("folder/2.jpg", 1),
    ]
    table = found.to_df()
    assert table["image"].tolist() == [0, 0, 2] and table["name"].tolist() == ["dog", "cat", "dog"]
    assert found.to_csv().splitlines()[0] == "image,path,name,class,confidence,x1,y1,x2,y2"


def test_a_notebook_shows_the_pictures() -> None:
    """The first eight, each with its name, and how many there are; a result by itself is one picture."""
    page = results(*[1] * 9)._repr_html_()
    assert page.count("data:image/png;base64,") == 8 and "9 images" in page and "0.jpg" in page and "folder" not in page
    assert results(2)[0]._repr_png_().startswith(b"\x89PNG")


def test_coco_is_read_by_pycocotools(capsys: pytest.CaptureFixture[str]) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    data = results(2, 0, 1).to_coco(category_ids=[18, 17])
    assert data["categories"] == [{"id": 18, "name": "cat"}, {"id": 17, "name": "dog"}]
    assert data["images"][2] == {"id": 2, "file_name": "folder/2.jpg", "height": 100, "width": 200}
    truth = coco.COCO()
    truth.dataset = {"images": data["images"], "categories": data["categories"], "annotations": []}
    truth.createIndex()
    loaded = truth.loadRes(data["annotations"])
    assert len(loaded.getAnnIds()) == 3 and loaded.anns[1]["bbox"] == [10, 20, 30, 40]
    assert loaded.anns[1]["category_id"] == 17 and loaded.anns[2]["score"] == 0.12346


@pytest.mark.parametrize(("path", "number"), [("a/000012.jpg", 12), ("a/cat.jpg", "cat")])
def test_coco_of_one_image(path: str, number: int | str) -> None:
    result = Results(np.zeros((10, 10, 3), np.uint8), path, NAMES, ROWS)
    assert {r["image_id"] for r in result.to_coco()} == {number}
    assert result.to_coco(image_id=7)[0]["image_id"] == 7
    assert result.to_coco()[0]["category_id"] == 1
    assert Results(np.zeros((10, 10, 3), np.uint8), path, NAMES).to_coco() == []


def test_supervision(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=lambda **kw: made.append(kw)))
    results(2)[0].to_supervision()
    tracked = torch.cat([ROWS[:, :4], torch.tensor([[3.0], [4.0]]), ROWS[:, 4:]], 1)
    Results(np.zeros((10, 10, 3), np.uint8), "x", NAMES, tracked).to_supervision()
    Results(np.zeros((10, 10, 3), np.uint8), "x", NAMES, ROWS[:0]).to_supervision()
    plain, ids, none = made
    np.testing.assert_allclose(plain["xyxy"], ROWS[:, :4])
    assert plain["class_id"].tolist() == [1, 0] and plain["tracker_id"] is None
    assert plain["data"]["class_name"].tolist() == ["dog", "cat"]
    assert ids["tracker_id"].tolist() == [3, 4]
    assert none["xyxy"].shape == (0, 4) and none["class_id"].shape == (0,)


def test_supervision_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingPackageError, match="pip install 'supervision'"):
        results(1)[0].to_supervision()


def test_supervision_for_real() -> None:
    pytest.importorskip("supervision")
    detections = results(2)[0].to_supervision()
    assert len(detections) == 2 and detections.class_id.tolist() == [1, 0]


def test_signature_of_the_interface() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    r = Results(image, "x.jpg", NAMES, ROWS, None, None, None, None, {"inference": 2.0})
    assert r.speed["inference"] == 2.0 and r.semantic_mask is None and r.depth is None
    drawn = r.plot(True, 2, None, "Arial.ttf", False, None, 5, True, True, True, True, True)
    assert drawn.shape == image.shape and drawn.any()
    with pytest.raises(ConfigError, match="masks"):
        Results(image, "x.jpg", NAMES, masks=torch.zeros(1))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="font"):
        r.plot(font="Comic.ttf")
