"""`val errors=True` and `match=`: what a validation writes and logs about its errors and about rows of a query."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
import torch

from tests.engine.tiny import Oracle, spread_network, truth, write_dataset
from ultralytics.models.rtdetr.val import RTDETRValidator
from ultralytics.nn.modules.query_head import QueryHead
from ultralytics.utils.errors import ConfigError


class OracleValidator(RTDETRValidator):
    """Takes the oracle as it is instead of loading weights."""

    def _backend(self, weights: Any) -> Any:
        return weights


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("shapes") / "set")


def args(data: Path, folder: Path, **more: Any) -> dict[str, Any]:
    given = {"data": str(data), "imgsz": 64, "batch": 2, "workers": 0, "plots": False, "device": "cpu", "mode": "val"}
    return {**given, "save_dir": str(folder), **more}


def test_errors_are_counted_priced_and_drawn(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong class in the first image, nothing found in the second, a box of nothing in the empty third."""
    answers = truth()
    answers[0][0][-1] = 1 - answers[0][0][-1]
    answers[1] = []
    answers[2] = [[0.2, 0.2, 0.1, 0.1, 0.8, 0.0]]
    validator = OracleValidator(args=args(data, tmp_path, errors=True))
    validator(model=Oracle(answers))
    report = json.loads((tmp_path / "errors.json").read_text())
    counts = {row["error"]: row["number"] for row in report["errors"]}
    assert counts == {
        "classification": 1, "localisation": 0, "both": 0, "duplicate": 0, "background": 1, "missed": 1,
        "all false positives": 2, "all targets not found": 2,
    }  # fmt: skip
    by_class = {row["class"]: row for row in report["errors_by_class"]}
    assert by_class["blue"]["AP50"] == 0.0 and by_class["blue"]["missed"] is None  # nothing of it is left to measure
    assert cv2.imread(str(tmp_path / "worst_images.png")) is not None
    assert "dAP50 of each kind by class" not in capsys.readouterr().out or (tmp_path / "errors.tex").exists()


def test_without_errors_there_is_no_sheet(data: Path, tmp_path: Path) -> None:
    validator = OracleValidator(args=args(data, tmp_path, errors=True))
    validator(model=Oracle(truth()))
    assert (tmp_path / "errors.csv").exists() and not (tmp_path / "worst_images.png").exists()


class Head(QueryHead):
    """The selection of rows alone."""

    nc, num_queries = 3, 5


def test_one_class_gives_each_query_its_best_class() -> None:
    torch.manual_seed(0)
    boxes, logits = torch.rand(2, 5, 4), torch.randn(2, 5, 3)
    head = Head()
    with head.restricted_to(None, one_class=True):
        rows = head.postprocess(boxes, logits)
    for i in range(2):
        best = [(float(logits[i, q].max().sigmoid()), float(logits[i, q].argmax()), q) for q in range(5)]
        wanted = [[*boxes[i, q].tolist(), score, label] for score, label, q in sorted(best, reverse=True)]
        torch.testing.assert_close(rows[i], torch.tensor(wanted))
    assert not torch.equal(head.postprocess(boxes, logits), rows)
    with head.restricted_to([1, 2], one_class=True):
        assert set(head.postprocess(boxes, logits)[..., 5].flatten().tolist()) <= {1.0, 2.0}


def test_both_rules_are_logged_and_each_is_its_own_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = spread_network()
    torch.manual_seed(0)
    torch.nn.init.normal_(network.model[-1].dec_score_head[-1].weight)  # each query has another order of classes
    stats = {}
    for match in ("both", "one-class", "top-k"):
        validator = RTDETRValidator(args=args(data, tmp_path / match, match=match, conf=0.0))
        validator(model=network)
        stats[match] = validator.metrics
    out = capsys.readouterr().out
    assert "by top-k" in out and out.count("a query counts for its best class alone") == 2  # of both, and alone
    confidences = {match: [s["conf"].tolist() for s in metrics.stats] for match, metrics in stats.items()}
    assert confidences["both"] == confidences["top-k"] != confidences["one-class"]
    assert stats["both"].one_class_stats == stats["one-class"].coco_stats and stats["top-k"].one_class_stats == {}


def test_an_exported_file_has_no_other_rule(data: Path, tmp_path: Path) -> None:
    validator = RTDETRValidator(args=args(data, tmp_path, match="one-class"))
    exported: Any = SimpleNamespace(metadata=object())
    with pytest.raises(ConfigError, match="validate the weights"):
        validator.class_filter(exported)
