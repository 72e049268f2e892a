"""Kinds and costs of errors against numbers of tidecv 1.0.1 (ten random sets), against a loop, and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.contract.source import ROOT
from ultralytics.utils.metrics.coco import CocoImage, coco_ap
from ultralytics.utils.metrics.errors import (
    BKG,
    BOTH,
    CLS,
    DUPE,
    LOC,
    MISSED,
    TRUE_POSITIVE,
    ErrorAnalysis,
    analyse_errors,
)

GOLDEN = json.loads((ROOT.parent / "tests/golden/tide.json").read_text())
ONE_POINT = 100 / 101 / 4  # of AP in percent: a recall that falls on one of the 101 points, in one of four classes
TARGET = [100.0, 100.0, 200.0, 200.0]


def image(dets: list[list[float]], targets: list[list[float]], place: int = 0, **more: Any) -> CocoImage:
    """An image from rows x1, y1, x2, y2, score, class and x1, y1, x2, y2, class."""
    d, g = np.array(dets, np.float64).reshape(-1, 6), np.array(targets, np.float64).reshape(-1, 5)
    return CocoImage(d[:, :4], d[:, 4], d[:, 5], g[:, :4], g[:, 4], image_id=place, **more)


def shifted(iou: float) -> list[float]:
    """The target moved to the right so that it has this overlap with itself."""
    step = 100 * (1 - iou) / (1 + iou)
    return [100 + step, 100, 200 + step, 200]


@pytest.mark.parametrize("number", range(len(GOLDEN)))
def test_costs_are_those_of_tidecv(number: int) -> None:
    case = GOLDEN[number]
    analysis = analyse_errors([image(dets, targets, i) for i, (dets, targets) in enumerate(case["images"])])
    names = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
    costs = {name: analysis.mean_cost(kind) for kind, name in enumerate(names, 1)}
    costs |= {"ap": float(analysis.ap.mean())}
    costs |= {"FalsePos": analysis.false_positives(), "FalseNeg": analysis.false_negatives()}
    assert {k: 100 * v for k, v in costs.items()} == pytest.approx(case["tide"], abs=ONE_POINT)


def test_most_golden_numbers_are_equal_exactly() -> None:
    equal = []
    for case in GOLDEN:
        analysis = analyse_errors([image(dets, targets, i) for i, (dets, targets) in enumerate(case["images"])])
        equal += [
            abs(100 * analysis.mean_cost(kind) - case["tide"][name]) < 1e-6
            for kind, name in enumerate(("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"), 1)
        ]
    assert np.mean(equal) > 0.8


@pytest.mark.parametrize(
    ("dets", "kinds", "missed"),
    [
        ([[*shifted(0.9), 0.9, 0]], [TRUE_POSITIVE], 0),
        ([[*shifted(0.7), 0.9, 1]], [CLS], 0),
        ([[*shifted(0.3), 0.9, 0]], [LOC], 0),
        ([[*shifted(0.3), 0.9, 1]], [BOTH], 1),
        ([[*shifted(0.05), 0.9, 0]], [BKG], 1),
        ([[*TARGET, 0.9, 0], [*shifted(0.8), 0.8, 0]], [TRUE_POSITIVE, DUPE], 0),
        ([], [], 1),
    ],
)
def test_definitions_of_the_paper(dets: list[list[float]], kinds: list[int], missed: int) -> None:
    analysis = analyse_errors([image(dets, [[*TARGET, 0]])])
    assert analysis.found.kind.tolist() == kinds and analysis.count(MISSED) == missed


def test_ap_is_cocos() -> None:
    for case in GOLDEN[:4]:
        images = [image(dets, targets, i) for i, (dets, targets) in enumerate(case["images"])]
        assert analyse_errors(images).ap.mean() == pytest.approx(coco_ap(images).as_dict()["AP50"])


def analysis_of(case: dict[str, Any]) -> tuple[ErrorAnalysis, list[CocoImage]]:
    images = [image(dets, targets, i) for i, (dets, targets) in enumerate(case["images"])]
    return analyse_errors(images), images


def test_loss_of_an_image_is_what_correcting_it_brings() -> None:
    analysis, images = analysis_of(GOLDEN[0])
    losses = analysis.image_losses()
    assert list(losses.values()) == sorted(losses.values(), reverse=True)
    for place in list(losses)[:3]:
        perfect = images[place]
        right = analysis.found.image == place
        keep = analysis.found.kind[right] == TRUE_POSITIVE
        order = np.argsort(-perfect.scores, kind="stable")[keep]
        lost = analysis.wanted.finder[analysis.wanted.image == place] < 0
        fixed = CocoImage(
            np.concatenate([perfect.target_boxes[lost], perfect.boxes[order]]),
            np.concatenate([np.full(lost.sum(), 2.0), perfect.scores[order]]),
            np.concatenate([perfect.target_classes[lost], perfect.classes[order]]),
            perfect.target_boxes,
            perfect.target_classes,
            image_id=place,
        )
        after = coco_ap([fixed if i == place else other for i, other in enumerate(images)]).as_dict()["AP50"]
        assert losses[place] == pytest.approx(after - analysis.ap.mean(), abs=1e-9)


def test_sizes_divide_targets_and_errors() -> None:
    analysis, _ = analysis_of(GOLDEN[1])
    parts = [analysis.of_size(size) for size in range(3)]
    assert sum(len(p.wanted.classes) for p in parts) == len(analysis.wanted.classes)
    for kind in range(1, MISSED + 1):
        assert sum(p.count(kind) for p in parts) == analysis.count(kind)


def test_a_detection_in_a_crowd_counts_for_nothing() -> None:
    inside = image([[120, 120, 160, 160, 0.9, 0]], [[*TARGET, 0]], crowd=np.array([True]))
    outside = image([[120, 120, 160, 160, 0.9, 1]], [[*TARGET, 0]], crowd=np.array([True]))
    assert analyse_errors([inside]).found.kind.tolist() == [] and analyse_errors([outside]).found.kind.tolist() == [BKG]


def test_no_images_and_no_targets() -> None:
    assert analyse_errors([]).mean_cost(CLS) == 0.0 and analyse_errors([]).image_losses() == {}
    empty = analyse_errors([image([[*TARGET, 0.9, 0]], [])])
    assert empty.found.kind.tolist() == [BKG] and empty.mean_cost(BKG) == 0.0 and empty.image_losses() == {0: 0.0}


def test_the_file_of_golden_numbers_is_small() -> None:
    assert Path(ROOT.parent / "tests/golden/tide.json").stat().st_size < 100_000
