"""Validation: an oracle gives known answers, a tiny network gives many small ones."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.tiny import IMAGES, NAMES, TINY, Oracle, coco_dataset, truth, write_dataset
from ultralytics.engine.validator import BaseValidator
from ultralytics.models.rtdetr.val import COCO80_TO_91, RTDETRValidator, geometry_of
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import ConfigError, UserError
from ultralytics.utils.torch_tools.training import EarlyStopping


class OracleValidator(RTDETRValidator):
    """Takes the oracle as it is instead of loading weights."""

    def _backend(self, weights: Any) -> Any:
        return weights


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def tiny() -> RTDETRDetectionModel:
    torch.manual_seed(0)
    model = RTDETRDetectionModel(TINY, verbose=False)
    head = model.model[-1]
    for parameter in head.parameters():  # spread scores and boxes: a fresh head answers the same everywhere
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    model.names = dict(NAMES)
    return model.eval()


def args(data: Path, tmp: Path, **more: Any) -> dict[str, Any]:
    return {
        "data": str(data), "imgsz": 64, "batch": 2, "workers": 0, "plots": False, "device": "cpu", "mode": "val",
        "project": str(tmp), "name": "val", **more,
    }  # fmt: skip


def run(answers: list[list[list[float]]], data: Path, tmp: Path, **more: Any) -> tuple[Any, RTDETRValidator]:
    validator = OracleValidator(args=args(data, tmp, **more))
    validator(model=Oracle(answers))
    return validator.metrics, validator


def test_perfect_detector_scores_one(data, tmp_path):
    metrics, validator = run(truth(), data, tmp_path)
    assert metrics.box.map == pytest.approx(1.0, abs=1e-9)
    assert metrics.box.map50 == pytest.approx(1.0, abs=1e-9)
    assert metrics.fitness == pytest.approx(1.0, abs=1e-9)
    assert validator.seen == len(IMAGES)
    assert metrics.nt_per_class.tolist() == [2, 3, 1]
    assert set(metrics.speed) == {"preprocess", "inference", "loss", "postprocess"}
    assert not (tmp_path / "val").exists()  # nothing to write, no folder


@pytest.mark.parametrize("plots", [False, True])
def test_no_predictions(data, tmp_path, plots):
    metrics, _ = run([[] for _ in IMAGES], data, tmp_path, plots=plots)
    assert metrics.mean_results() == [0.0, 0.0, 0.0, 0.0]
    assert metrics.confusion_matrix.matrix[-1, :-1].tolist() == [2, 3, 1]  # all missed


@pytest.mark.parametrize("plots", [False, True])
def test_no_targets(tmp_path, plots, capsys):
    empty = write_dataset(tmp_path / "empty", [((64, 64), []), ((40, 80), [])])
    metrics, _ = run([[[0.5, 0.5, 0.2, 0.2, 0.9, 1]], []], empty, tmp_path, plots=plots)
    assert metrics.mean_results() == [0.0, 0.0, 0.0, 0.0]
    assert metrics.confusion_matrix.matrix[1, -1] == 1
    assert "no labels" in capsys.readouterr().out


def test_neither_predictions_nor_targets(tmp_path):
    empty = write_dataset(tmp_path / "empty", [((64, 64), [])])
    metrics, _ = run([[]], empty, tmp_path)
    assert metrics.fitness == 0


def test_low_scores_count_for_ap_but_not_in_the_confusion_matrix(data, tmp_path):
    noise = [[0.1, 0.1, 0.1, 0.1, 0.01, 2]] * 20
    answers = [[*rows, *noise] for rows in truth()]
    metrics, _ = run(answers, data, tmp_path)
    assert sum(len(s["conf"]) for s in metrics.stats) == sum(map(len, answers))
    matrix = metrics.confusion_matrix.matrix
    assert matrix.diagonal().tolist() == [2, 3, 1, 0]
    assert matrix.sum() == 6
    assert run(answers, data, tmp_path, conf=0.005)[0].confusion_matrix.matrix.sum() > 6


def test_conf_max_det_and_classes(data, tmp_path):
    answers = [[[*row[:4], 0.9 - 0.2 * i, row[5]] for i, row in enumerate(rows)] for rows in truth()]
    count = lambda **kw: sum(len(s["conf"]) for s in run(answers, data, tmp_path, **kw)[0].stats)  # noqa: E731
    assert count() == 6
    assert count(conf=0.6) == 5
    assert count(max_det=1) == 3
    assert count(classes=[1]) == 3
    assert count(classes=1) == 3


def test_class_filter_drops_labels_and_predictions(data, tmp_path):
    metrics, _ = run(truth(), data, tmp_path, classes=[1])
    assert metrics.box.map == pytest.approx(1.0)
    assert metrics.nt_per_class.tolist() == [0, 3, 0]


@pytest.mark.parametrize("clips", [True, False])
def test_the_family_decides_whether_boxes_end_at_the_image(data, tmp_path, monkeypatch, clips):
    """One rule for AP and predictions.json; a label file with places outside would be refused by the next reader."""
    assert RTDETRValidator.clips_boxes and not DetectionValidator.clips_boxes
    monkeypatch.setattr(OracleValidator, "clips_boxes", clips)
    answers = [[[0.1, 0.1, 0.9, 0.9, 0.9, 0], [0.9, 0.9, 0.9, 0.9, 0.8, 1]] for _ in IMAGES]
    metrics, _ = run(answers, data, tmp_path, save_json=True, save_txt=True)
    for stat, (shape, _) in zip(metrics.stats, IMAGES, strict=True):
        want = np.array([[-0.35, -0.35, 0.55, 0.55], [0.45, 0.45, 1.35, 1.35]])
        want = (want.clip(0, 1) if clips else want) * np.tile(shape[::-1], 2)
        np.testing.assert_allclose(stat["pred_boxes"], want, atol=1e-3)
    rows = json.loads((tmp_path / "val" / "predictions.json").read_text())
    written = np.array([row["bbox"] for row in rows])
    counted = np.concatenate([stat["pred_boxes"] for stat in metrics.stats])
    np.testing.assert_allclose(written[:, :2], counted[:, :2], atol=1e-3)
    np.testing.assert_allclose(written[:, 2:], counted[:, 2:] - counted[:, :2], atol=2e-3)
    for file in (tmp_path / "val" / "labels").glob("*.txt"):
        centre, size = np.loadtxt(file)[:, 1:3], np.loadtxt(file)[:, 3:5]
        assert (centre - size / 2).min() == pytest.approx(0, abs=1e-5)
        assert (centre + size / 2).max() == pytest.approx(1, abs=1e-5)


def test_single_cls(data, tmp_path):
    answers = [[[*row[:5], 0] for row in rows] for rows in truth()]
    metrics, _ = run(answers, data, tmp_path, single_cls=True)
    assert metrics.box.map == pytest.approx(1.0)
    assert metrics.names == {0: "item"}


def test_save_txt_reads_back(data, tmp_path):
    run(truth(), data, tmp_path, save_txt=True, save_conf=True)
    files = sorted((tmp_path / "val" / "labels").glob("*.txt"))
    assert [f.name for f in files] == [f"images_val_{i:03d}.txt" for i in (0, 1, 3)]  # no file without detections
    for file, (_, rows) in zip(files, [x for x in IMAGES if x[1]], strict=True):
        got = np.loadtxt(file, ndmin=2)
        np.testing.assert_allclose(got[:, :5], np.array(rows), atol=1e-4)
        np.testing.assert_allclose(got[:, 5], 0.9, atol=1e-4)


def test_save_json_is_coco_results(data, tmp_path):
    run(truth(), data, tmp_path, save_json=True)
    rows = json.loads((tmp_path / "val" / "predictions.json").read_text())
    assert len(rows) == 6
    first = rows[0]
    assert (first["image_id"], first["file_name"], first["category_id"], first["score"]) == (0, "000.png", 1, 0.9)
    assert first["bbox"] == pytest.approx([0.15 * 120, 0.2 * 90, 36, 36], abs=1e-2)
    assert (COCO80_TO_91[0], COCO80_TO_91[11], COCO80_TO_91[-1], len(COCO80_TO_91)) == (1, 13, 90, 80)


def test_reported_ap_is_pycocotools_on_the_written_json(data, tmp_path, capsys):
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    rng = np.random.default_rng(0)
    answers = [
        [[*(np.array(r[:4]) + rng.normal(0, 0.02, 4)), float(rng.uniform(0.1, 0.9)), r[5]] for r in rows for _ in "ab"]
        for rows in truth()
    ]
    metrics, _ = run(answers, data, tmp_path, save_json=True)
    truths = coco.COCO()
    truths.dataset = coco_dataset()
    truths.createIndex()
    scored = evaluation.COCOeval(truths, truths.loadRes(str(tmp_path / "val" / "predictions.json")), "bbox")
    scored.evaluate(), scored.accumulate(), scored.summarize()
    assert 0.1 < metrics.box.map < 0.95
    assert metrics.box.map == pytest.approx(scored.stats[0], abs=1e-4)
    assert metrics.box.map50 == pytest.approx(scored.stats[1], abs=1e-4)
    capsys.readouterr()


def test_files_of_a_run_with_plots(data, tmp_path):
    run(truth(), data, tmp_path, plots=True)
    names = {p.name for p in (tmp_path / "val").iterdir()}
    assert {
        "val_batch0_labels.jpg", "val_batch0_pred.jpg", "val_batch1_pred.jpg", "confusion_matrix.png",
        "confusion_matrix_normalized.png", "BoxPR_curve.png", "BoxF1_curve.png", "BoxP_curve.png", "BoxR_curve.png",
    } <= names  # fmt: skip
    run(truth(), data, tmp_path, save_json=True)
    assert (tmp_path / "val2").is_dir()


def test_batch_one_equals_batch_n(data, tmp_path, tiny):
    def stats(batch: int) -> list[Any]:
        validator = RTDETRValidator(args=args(data, tmp_path, batch=batch))
        validator(model=tiny)
        return list(validator.stats)

    ones, threes = stats(1), stats(3)
    assert sum(len(s["conf"]) for s in ones) > 50
    for a, b in zip(ones, threes, strict=True):
        np.testing.assert_allclose(a["conf"], b["conf"], atol=1e-5)
        np.testing.assert_allclose(a["pred_boxes"], b["pred_boxes"], atol=1e-2)
        assert a["im_name"] == b["im_name"]


def test_the_given_model_is_left_as_it_was(data, tmp_path, tiny):
    before = {k: v.clone() for k, v in tiny.state_dict().items()}
    RTDETRValidator(args=args(data, tmp_path))(model=tiny)
    after = tiny.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert not tiny.is_fused()


def test_letterbox_gives_original_boxes_too(data, tmp_path):
    """The oracle answers in network coordinates: the labels of a letterboxed loader are its perfect answers."""
    validator = OracleValidator(args=args(data, tmp_path, letterbox=True))
    validator.data = validator.get_dataset(str(data))
    loader = validator.get_dataloader(validator.data["val"], 2)
    answers: list[list[list[float]]] = [[] for _ in IMAGES]
    done = 0
    for batch in loader:
        for owner, cls, box in zip(batch["batch_idx"], batch["cls"].flatten(), batch["bboxes"], strict=True):
            answers[done + int(owner)].append([*box.tolist(), 0.9, float(cls)])
        (gain_h, gain_w), _ = geometry_of(batch, 0)
        assert gain_h == pytest.approx(gain_w, rel=0.03)
        done += len(batch["img"])
    validator.dataloader = loader
    validator(model=Oracle(answers))
    metrics = validator.metrics
    assert metrics.box.map == pytest.approx(1.0)
    for stat, ((h, w), rows) in zip(metrics.stats, IMAGES, strict=True):
        table = np.array(rows).reshape(-1, 5)
        want = np.hstack([table[:, 1:3] - table[:, 3:] / 2, table[:, 1:3] + table[:, 3:] / 2]) * [w, h, w, h]
        np.testing.assert_allclose(stat["target_boxes"], want, atol=1.0)


# ------------------------------------------------------------------------------------------------------ in training
def trainer_of(model: torch.nn.Module, validator: RTDETRValidator, data: dict[str, Any], **more: Any) -> Any:
    def label(items: torch.Tensor, prefix: str) -> dict[str, float]:
        names = (f"{prefix}/{n}_loss" for n in ("giou", "cls", "l1"))
        return dict(zip(names, items.tolist(), strict=True))

    values = {
        "args": validator.args, "data": data, "device": torch.device("cpu"), "epoch": 0, "epochs": 3, "model": model,
        "ema": None, "shared_validation": False, "stopper": EarlyStopping(10), "label_loss_items": label, **more,
    }  # fmt: skip
    return SimpleNamespace(**values)


def test_called_by_a_trainer(data, tmp_path, tiny):
    validator = RTDETRValidator(save_dir=tmp_path / "run", args=args(data, tmp_path, plots=True, amp=False))
    checked = validator.get_dataset(str(data))
    validator.data = checked
    validator.dataloader = validator.get_dataloader(checked["val"], 2)
    tiny.train()
    result = validator(trainer=trainer_of(tiny, validator, checked))
    assert tiny.training  # given back in the mode it had
    tiny.eval()
    assert isinstance(result, dict)
    assert {"val/giou_loss", "val/cls_loss", "val/l1_loss", "fitness", "metrics/mAP50-95(B)"} <= set(result)
    assert all(v == round(v, 5) for v in result.values())
    assert result["val/giou_loss"] > 0
    assert not (tmp_path / "run").exists()  # pictures only at the last epoch
    validator(trainer=trainer_of(tiny, validator, checked, epoch=2))
    assert (tmp_path / "run" / "val_batch0_pred.jpg").exists()


def test_the_ema_model_is_what_is_evaluated(data, tmp_path, tiny):
    validator = RTDETRValidator(args=args(data, tmp_path, amp=False))
    checked = validator.get_dataset(str(data))
    validator.data = checked
    validator.dataloader = validator.get_dataloader(checked["val"], 2)
    result = validator(trainer=trainer_of(torch.nn.Linear(1, 1), validator, checked, ema=SimpleNamespace(ema=tiny)))
    alone = RTDETRValidator(args=args(data, tmp_path))(model=tiny)
    for key, value in alone.items():
        assert result[key] == pytest.approx(value, abs=1e-4)


def test_callbacks_run_in_order(data, tmp_path):
    seen: list[str] = []
    validator = OracleValidator(args=args(data, tmp_path))
    for event in ("on_val_start", "on_val_batch_start", "on_val_batch_end", "on_val_end"):
        validator.add_callback(event, lambda _, event=event: seen.append(event))
    validator(model=Oracle(truth()))
    pair = ["on_val_batch_start", "on_val_batch_end"]
    assert seen == ["on_val_start", *pair, *pair, "on_val_end"]


# ----------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize("name", ["visualize", "dnn"])
def test_arguments_without_effect_warn_once(data, tmp_path, name, capsys):
    validator = RTDETRValidator(args={**args(data, tmp_path), name: True})
    assert capsys.readouterr().out.count(f"{name}=True has no effect") == 1 and validator.args.get(name) is False


def test_missing_parts_are_named(data, tmp_path, tiny):
    with pytest.raises(ConfigError, match="data"):
        RTDETRValidator(args={**args(data, tmp_path), "data": None})(model=tiny)
    with pytest.raises(ConfigError, match="model"):
        RTDETRValidator(args=args(data, tmp_path))()
    with pytest.raises(UserError, match="test"):
        RTDETRValidator(args=args(data, tmp_path, split="test"))(model=tiny)


def test_class_count_mismatch_is_said(data, tmp_path, capsys):
    oracle = Oracle(truth())
    oracle.names = {i: str(i) for i in range(80)}
    OracleValidator(args=args(data, tmp_path))(model=oracle)
    assert "80 classes" in capsys.readouterr().out


def test_the_same_classes_in_another_order_are_reported(data, tmp_path, capsys):
    oracle = Oracle(truth())
    oracle.names = dict(enumerate(reversed(list(NAMES.values()))))
    OracleValidator(args=args(data, tmp_path))(model=oracle)
    assert "classes in another order" in capsys.readouterr().out


def test_hooks_must_be_filled():
    with pytest.raises(NotImplementedError):
        BaseValidator().init_metrics(torch.nn.Identity())
