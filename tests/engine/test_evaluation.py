"""One checkpoint by every way of validating it: command line, Python, and its JSON through pycocotools."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

import ultralytics
from tests.engine.tiny import IMAGES, coco_dataset, overfitted, write_dataset
from ultralytics.cli import main as cli
from ultralytics.engine.compare import _report_rules, labels_of
from ultralytics.engine.model import Model
from ultralytics.models import RTDETR
from ultralytics.models.rtdetr.val import RTDETRValidator
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils.errors import ConfigError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, and two checkpoints of one training run: `late.pt` finds what `early.pt` does not find yet."""
    folder = tmp_path_factory.mktemp("evaluation")
    write_dataset(folder / "data")
    for name, model in zip(("early", "late"), overfitted((40, 100)), strict=True):
        wrapper = RTDETR({**model.yaml})
        wrapper.model = model
        wrapper.save(folder / f"{name}.pt")
    return folder


def options(root: Path, **more: Any) -> dict[str, Any]:
    return {
        "data": str(root / "data" / "data.yaml"), "imgsz": 64, "batch": 2, "workers": 0, "device": "cpu",
        "project": str(root / "runs"), "plots": False, **more,
    }  # fmt: skip


def tokens(values: dict[str, Any]) -> list[str]:
    return [f"{k}={v}" for k, v in values.items()]


def pycocotools_of(file: Path) -> np.ndarray:
    """The 12 numbers of a predictions.json against the data set as it was drawn."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    truths = coco.COCO()
    truths.dataset = coco_dataset()
    with contextlib.redirect_stdout(io.StringIO()):
        truths.createIndex()
        scored = evaluation.COCOeval(truths, truths.loadRes(str(file)), "bbox")
        scored.evaluate(), scored.accumulate(), scored.summarize()
    return np.asarray(scored.stats)


def test_one_checkpoint_has_one_ap(root: Path) -> None:
    weights = str(root / "late.pt")
    metrics = RTDETR(weights).val(**options(root, name="python", save_json=True))
    cli.entrypoint(["detect", "val", f"model={weights}", *tokens(options(root, name="shell", save_json=True))])
    shell = json.loads((root / "runs" / "shell" / "metrics.json").read_text())
    cli_stats = [-1 if row["value"] is None else row["value"] for row in shell["coco"]]
    stats = list(metrics.coco_stats.values())
    assert 0.05 < stats[0] < 0.999
    for folder in ("python", "shell"):
        np.testing.assert_allclose(pycocotools_of(root / "runs" / folder / "predictions.json"), stats, atol=5e-5)
    np.testing.assert_allclose(cli_stats, stats, atol=5e-5)


def test_batch_1_and_8_have_one_ap(root: Path) -> None:
    model = RTDETR(str(root / "late.pt"))
    one, eight = (list(model.val(**options(root, batch=b)).coco_stats.values()) for b in (1, 8))
    np.testing.assert_allclose(one, eight, atol=5e-5)


def test_report_files_and_tables(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = RTDETR(str(root / "late.pt")).val(**options(root, name="report", plots=True, ci=True, conf=0.1))
    out = capsys.readouterr().out
    assert "class-agnostic" in out and "low 95%" in out and "best F1" in out and "too narrow" in out
    folder = root / "runs" / "report"
    data = json.loads((folder / "metrics.json").read_text())
    assert data["images"] == len(IMAGES)
    assert {row["ms per image"] for row in data["times"]} == {"preprocess", "inference", "loss", "postprocess"}
    assert set(data["times"][0]) == {"ms per image", "mean", "p50", "p90", "p99"}
    assert [row["conf"] for row in data["thresholds"]][1] == 0.1
    assert metrics.times["inference"]["p99"] >= metrics.times["inference"]["p50"] > 0
    rows = list(csv.reader((folder / "metrics.csv").read_text().splitlines()))
    assert ["# Classes"] in rows and any(row[:1] == ["red"] for row in rows)
    assert r"\begin{tabular}" in (folder / "metrics.tex").read_text()


def test_class_names_of_any_kind_are_validated_with_pictures(root: Path) -> None:
    data = yaml.safe_load((root / "data" / "data.yaml").read_text())
    data["names"] = dict(enumerate(["price $5_$10", "_dog", "$100% cotton$"][: len(data["names"])]))
    (root / "data" / "odd.yaml").write_text(yaml.safe_dump({**data, "path": str(root / "data")}))
    given = options(root, name="odd", plots=True, data=str(root / "data" / "odd.yaml"))
    assert RTDETR(str(root / "late.pt")).val(**given).box.map > 0.05
    assert len(list((root / "runs" / "odd").glob("*.png"))) == 6


def test_a_picture_that_fails_costs_no_number(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("ultralytics.utils.metrics.ap.plot_pr_curve", fail)
    monkeypatch.setattr("ultralytics.utils.metrics.confusion.plot_confusion_matrix", fail)
    with pytest.raises(OSError, match="no space"):
        RTDETR(str(root / "late.pt")).val(**options(root, name="full", plots=True, save_json=True))
    folder = root / "runs" / "full"
    rows = json.loads((folder / "metrics.json").read_text())["coco"]
    assert rows[0]["value"] == pytest.approx(pycocotools_of(folder / "predictions.json")[0], abs=5e-5)


def test_intervals_follow_the_seed(root: Path) -> None:
    model = RTDETR(str(root / "late.pt"))
    a, b, c = (model.val(**options(root, ci=True, seed=s)).bootstrap.stats for s in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c, equal_nan=True)
    assert model.val(**options(root)).bootstrap is None


def test_several_weights_side_by_side(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(root / "early.pt"), str(root / "late.pt")]
    cli.entrypoint(["val", *names, *tokens(options(root, name="both"))])
    out = capsys.readouterr().out
    assert "Differences to early" in out
    data = json.loads((root / "runs" / "both" / "comparison.json").read_text())
    early, late = data["models"]
    assert (early["model"], late["model"]) == ("early", "late") and late["AP"] > early["AP"]
    change = data["differences"][0]
    assert (change["model"], change["metric"]) == ("late", "AP")
    assert change["difference"] == pytest.approx(late["AP"] - early["AP"])
    assert change["low 95%"] <= change["difference"] <= change["high 95%"]
    assert (root / "runs" / "both" / "comparison.tex").is_file()
    assert change["on these images"] == ("differs" if change["low 95%"] > 0 else "no sign")


def test_a_single_bare_name_is_the_model(root: Path) -> None:
    cli.entrypoint(["val", str(root / "late.pt"), *tokens(options(root, name="single", save_json=True))])
    assert (root / "runs" / "single" / "predictions.json").is_file()


def test_a_model_against_itself_differs_by_nothing(root: Path) -> None:
    weights = str(root / "late.pt")
    found = ultralytics.compare([RTDETR(weights), RTDETR(weights)], **options(root, name="same"))
    assert list(found.metrics) == ["late-1", "late-2"]
    for row in found.tables["differences"].records():
        assert (row["difference"], row["low 95%"], row["high 95%"], row["on these images"]) == (0, 0, 0, "no sign")


def test_what_cannot_be_compared(root: Path, tmp_path: Path) -> None:
    model = RTDETR(str(root / "late.pt"))
    with pytest.raises(ConfigError, match="at least two"):
        ultralytics.compare([model], **options(root))
    other = write_dataset(tmp_path / "other", IMAGES[:2])

    class Elsewhere(RTDETR):
        """Reads other images than those that it is given."""

        def val(self, *args: Any, **kwargs: Any) -> Any:
            return Model.val(self, *args, **{**kwargs, "data": str(other)})

    with pytest.raises(ConfigError, match="same images"):
        ultralytics.compare([model, Elsewhere(str(root / "late.pt"))], **options(root))


@pytest.mark.parametrize(("second", "warned"), [(RTDETRValidator, False), (DetectionValidator, True)])
def test_families_that_compare_boxes_in_two_ways_are_named(
    second: type[RTDETRValidator], warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    models: Any = [
        SimpleNamespace(task="detect", task_map={"detect": {"validator": v}}) for v in (RTDETRValidator, second)
    ]
    _report_rules(models, ["a", "b"])
    assert ("a: boxes are clipped to the image" in capsys.readouterr().out) is warned


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        (["a.pt", "b.pt"], ["a", "b"]),
        (["a/best.pt", "b/best.pt"], ["a/best", "b/best"]),
        (["a/best.pt", "a/best.pt", "a/c.pt"], ["best-1", "best-2", "c-3"]),
    ],
)
def test_labels(paths: list[str], labels: list[str]) -> None:
    assert labels_of(paths) == labels
