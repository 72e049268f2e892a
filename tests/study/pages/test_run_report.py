"""The page of a run shows what it was trained on and what it ended with, whatever is left of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.engine.tiny import write_dataset
from ultralytics.study.pages.data_summary import data_rows
from ultralytics.study.pages.run_report import report
from ultralytics.utils import YAML
from ultralytics.utils.errors import NotFoundError


def test_boxes_are_counted_by_split_and_class(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "set")
    assert data_rows(str(data)) == [
        ("split", "images", "without objects", "boxes", "red", "green", "blue"),
        ("train", "4", "1", "6", "2", "3", "1"),
        ("val", "4", "1", "6", "2", "3", "1"),
    ]
    with pytest.raises(NotFoundError):
        data_rows(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        ({"weights": "weights/best.pt", "images": 4, "metrics": {"metrics/mAP50(B)": 0.123456}}, "0.1235"),
        ({"metrics": [1]}, ""),
        ([], ""),
    ],
)
def test_the_page_has_the_final_metrics_and_the_data(tmp_path: Path, record: object, shown: str) -> None:
    YAML.save(tmp_path / "args.yaml", {"model": "a.yaml", "data": "gone.yaml"})
    (tmp_path / "final_metrics.json").write_text(json.dumps(record))
    page = report(tmp_path).read_text(encoding="utf-8")
    assert ("Final metrics" in page) == bool(shown) and shown in page
    assert "gone.yaml: no such file" in page


def test_a_run_without_figures_gets_its_curves(tmp_path: Path) -> None:
    YAML.save(tmp_path / "args.yaml", {"model": "a.yaml"})
    (tmp_path / "results.csv").write_text("epoch,train/loss\n1,0.5\n2,0.25\n")
    page = report(tmp_path).read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 1 and "Losses and metrics over the epochs" in page
    (tmp_path / "results.csv").write_text("epoch,train/loss\n")
    assert "data:image" not in report(tmp_path).read_text(encoding="utf-8")


def test_the_folder_of_a_validation_is_named_by_its_metrics(tmp_path: Path) -> None:
    record = {"model": "best.pt", "data": "gone.yaml", "coco": [{"metric": "AP", "value": 0.5}]}
    (tmp_path / "metrics.json").write_text(json.dumps(record))
    page = report(tmp_path).read_text(encoding="utf-8")
    assert "best.pt on gone.yaml" in page and "COCO metrics" in page
