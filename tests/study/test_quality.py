"""Figures of several models: what a validation gives them, what they show, and that their fonts are embedded."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.study.runs import outcome, write_run
from ultralytics.study.quality import QUALITY, measured_quality, write_quality
from ultralytics.study.results import Findings
from ultralytics.utils.metrics import ConfusionMatrix, DetMetrics
from ultralytics.utils.metrics.quality import ModelQuality, quality_of
from ultralytics.utils.plotting.quality import draw_quality


def metrics() -> DetMetrics:
    """Two images of two classes: three hits, one wrong class, one target not found."""
    found = DetMetrics({0: "a", 1: "白"}, coco=True)
    found.confusion_matrix = ConfusionMatrix({0: "a", 1: "白"})
    boxes = np.array([[0, 0, 50, 50], [60, 60, 90, 90]], float)
    for i, (scores, predicted) in enumerate((([0.9, 0.8], [0, 1]), ([0.7, 0.6], [0, 0]))):
        tp = np.repeat((np.array(predicted) == [0, 1])[:, None], 10, 1)
        found.update_stats(
            {
                "tp": tp, "conf": np.array(scores), "pred_cls": np.array(predicted), "target_cls": np.array([0, 1]),
                "pred_boxes": boxes, "target_boxes": boxes, "im_name": f"{i}.jpg",
            }
        )  # fmt: skip
        both = torch.tensor(boxes)
        detections = {"bboxes": both, "conf": torch.tensor(scores), "cls": torch.tensor(predicted)}
        found.confusion_matrix.process_batch(detections, {"bboxes": both, "cls": torch.tensor([0, 1])})
    found.process()
    return found


def test_the_numbers_of_a_validation(tmp_path: Path) -> None:
    quality = quality_of(metrics())
    assert quality is not None and quality.labels == ("a", "白", "background")
    # class a: all found, a false one below both; class 白: half found
    assert quality.precision[0] == pytest.approx(1.0) and quality.precision[40] == pytest.approx(1.0)
    assert quality.precision[90] < 0.6 and (np.diff(quality.precision) <= 1e-9).all()
    assert quality.normalized[:, 0].tolist() == [1, 0, 0] and quality.normalized[:, 1].tolist() == [0.5, 0.5, 0]
    assert set(quality.sizes) == {"small", "medium"}
    quality.save(tmp_path / "q.npz")
    again = ModelQuality.load(tmp_path / "q.npz", {"AP_small": 0.5, "AP_large": -1.0})
    assert again is not None and again.labels == quality.labels and again.sizes == {"small": 0.5}
    assert np.allclose(again.precision, quality.precision) and (again.confusion == quality.confusion).all()
    assert ModelQuality.load(tmp_path / "none.npz", {}) is None and quality_of(DetMetrics({0: "a"})) is None


def test_runs_without_the_numbers_are_left_out(tmp_path: Path) -> None:
    found = Findings(base="base")
    for arm, seed in (("base", 0), ("base", 1), ("old", 0)):
        folder = tmp_path / f"{arm}{seed}"
        found.outcomes.setdefault(arm, {})[seed] = write_run(folder, outcome(arm, seed, 0.5, folder))
        if arm == "base":
            write_quality(folder, metrics())
            assert (folder / QUALITY).is_file()
    assert {arm: len(runs) for arm, runs in measured_quality(found).items()} == {"base": 2}
    assert draw_quality({"old": []}, tmp_path) == []


def test_the_figures_hold_all_models_and_their_fonts(tmp_path: Path) -> None:
    quality = quality_of(metrics())
    assert quality is not None
    files = draw_quality({"base": [quality, quality], "$a_b$": [quality], "c": [quality]}, tmp_path)
    names = ["precision_recall.png", "precision_recall.pdf", "confusion.png", "confusion.pdf"]
    assert [f.name for f in files] == [*names, "ap_by_size.png", "ap_by_size.pdf"]
    for file in files[1::2]:
        assert b"/FontFile2" in file.read_bytes() and b"/Type3" not in file.read_bytes()
        if shutil.which("pdffonts"):
            lines = subprocess.run(["pdffonts", file], capture_output=True, text=True, check=True).stdout.splitlines()
            assert len(lines) > 2 and all(" yes yes " in line for line in lines[2:]), lines  # embedded, a subset
