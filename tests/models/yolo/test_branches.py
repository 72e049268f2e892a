"""Arguments of YOLO networks: `nms` and its branches, `max_det`, rectangular batches, MuSGD, suppression in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.engine.tiny import FAST_RUN, TINY, draw, write_dataset
from tests.models.yolo.networks import DUAL, NOISE, V8, V26, spread
from ultralytics import RTDETR, YOLO
from ultralytics.cfg import get_cfg
from ultralytics.engine.export.exporter import Export
from ultralytics.engine.export.parity import TOLERANCES
from ultralytics.models.yolo.detect import DetectionPredictor, DetectionTrainer, DetectionValidator
from ultralytics.nn.export.suppression import SuppressedForm, Suppression
from ultralytics.nn.yolo import YOLODetectionModel
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.nms import non_max_suppression

PREDICT: dict[str, Any] = {"imgsz": 64, "conf": 0.0, "device": "cpu", "amp": False}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("yolo") / "data")


def test_nms_chooses_the_branch() -> None:
    model = spread(DUAL)
    image = NOISE
    usual = model.predict(image, **PREDICT)[0].boxes
    explicit = model.predict(image, nms=True, **PREDICT)[0].boxes
    free = model.predict(image, nms=False, **PREDICT)[0].boxes
    torch.testing.assert_close(usual.data, explicit.data)
    x = torch.from_numpy(image[..., ::-1].transpose(2, 0, 1).copy())[None].float() / 255
    network = model.model.eval()
    network.end2end = True
    with torch.no_grad():
        rows = network(x)[0][0]
    assert len(free) == len(rows) == 80 and len(usual) != 80  # NMS-free: all anchors
    torch.testing.assert_close(free.conf, rows[:, 4], atol=1e-4, rtol=0)
    network.end2end = False


def test_rows_of_an_nms_free_head_follow_the_arguments() -> None:
    model = spread(DUAL)
    image = np.tile(NOISE, (3, 4, 1))  # 192 x 256 px; 3 anchors a cell of 8 px, 960 in all
    given = {**PREDICT, "imgsz": 256, "nms": False}
    assert len(model.predict(image, **given)[0].boxes) == 300
    assert len(model.predict(image, max_det=500, **given)[0].boxes) == 500
    assert model.predictor.model.model.head.max_det == 300
    one = model.predict(image, max_det=500, agnostic_nms=True, **given)[0].boxes
    assert len(one.xyxy.unique(dim=0)) > len(model.predict(image, max_det=500, **given)[0].boxes.xyxy.unique(dim=0))
    only = model.predict(image, classes=[2], **given)[0].boxes
    assert len(only) == 300 and set(only.cls.tolist()) == {2.0}


@pytest.mark.parametrize(("nms", "conf"), [(True, 0.3), (False, None)])
def test_a_file_may_suppress_or_hold_rows(nms: bool, conf: float | None, tmp_path: Path) -> None:
    model = spread(DUAL)
    model.save(tmp_path / "net.pt")
    model = YOLO(tmp_path / "net.pt")
    given: dict[str, Any] = {} if conf is None else {"conf": conf}
    opened = YOLO(model.export(format="torchscript", imgsz=64, nms=nms, iou=0.4, **given))
    image = NOISE
    same = {**PREDICT, "conf": conf or 0.0, "iou": 0.4}
    want = model.predict(image, nms=nms, **same)[0].boxes
    got = opened.predict(image, **same)[0].boxes
    assert len(got) == len(want) > 0
    torch.testing.assert_close(got.conf, want.conf, atol=1e-5, rtol=0)
    torch.testing.assert_close(got.xyxy, want.xyxy, atol=1e-2, rtol=0)


@pytest.mark.parametrize("agnostic", [False, True])
def test_suppression_in_a_graph_equals_the_function(agnostic: bool) -> None:
    """Of several images, one of them without any box."""
    torch.manual_seed(1)
    y = torch.cat((torch.rand(3, 2, 200) * 60, torch.rand(3, 2, 200) * 20 + 4, torch.rand(3, 5, 200)), 1)
    y[1, 4:] = 0.0
    form = SuppressedForm(nn.Identity(), Suppression(0.5, 0.45, 30, agnostic))
    rows = form(y)
    assert rows.shape == (3, 30, 6)
    want = non_max_suppression(y, 0.5, 0.45, agnostic=agnostic, max_det=30)
    for ours, theirs in zip(rows, want, strict=True):
        torch.testing.assert_close(ours[ours[:, 4] > 0.5], theirs, atol=1e-4, rtol=0)


def test_a_file_with_suppression_has_one_size(tmp_path: Path) -> None:
    model = YOLO(YOLO(V8).save(tmp_path / "net.pt"))
    with pytest.raises(ConfigError, match="leave dynamic out"):
        model.export(format="torchscript", imgsz=64, nms=True, dynamic=True)


# ---------------------------------------------------------------------------------------------------------- rectangles
def test_validation_shapes_batches_by_aspect(data: Path, tmp_path: Path) -> None:
    model = YOLO(V8)
    shapes: list[tuple[int, ...]] = []
    given: dict[str, Any] = {"data": str(data), "imgsz": 128, "batch": 1, "workers": 0, "plots": False, "device": "cpu"}
    model.add_callback("on_val_batch_end", lambda validator: shapes.append(validator.network_size))
    model.val(project=str(tmp_path), **given)
    assert len(set(shapes)) > 1 and all(side % 32 == 0 for shape in shapes for side in shape)
    shapes.clear()
    model.val(project=str(tmp_path), rect=False, **given)
    assert set(shapes) == {(128, 128)}


def test_prediction_pads_as_far_as_the_stride_needs() -> None:
    model = YOLO(V8)
    images = [draw((48, 96), []), draw((48, 96), []), draw((90, 60), [])]
    shapes: list[tuple[int, ...]] = []
    model.add_callback("on_predict_batch_end", lambda predictor: shapes.append(predictor.results[0].orig_shape))
    (first,) = model.predict(images[0], **{**PREDICT, "imgsz": 96})
    predictor = model.predictor
    assert predictor.preprocess(images[:2]).shape == (2, 3, 64, 96)
    assert predictor.preprocess(images).shape == (3, 3, 96, 96)
    model.predict(images[0], **{**PREDICT, "imgsz": 96, "rect": False})
    assert model.predictor.preprocess(images[:2]).shape == (2, 3, 96, 96)
    assert first.orig_shape == (48, 96)


def test_training_in_rectangles(data: Path, tmp_path: Path) -> None:
    """Each batch has the shape of its images, in a fixed order; sizes vary with their aspect."""
    run = {**FAST_RUN, "data": str(data), "project": str(tmp_path), "name": "rect", "imgsz": 128, "epochs": 1}
    model = YOLO(V8)
    seen: list[tuple[int, ...]] = []
    model.add_callback("on_train_batch_end", lambda trainer: seen.append(tuple(trainer.batch["img"].shape[2:])))
    model.train(**{**run, "rect": True, "batch": 1, "multi_scale": 0.0})
    assert len(set(seen)) > 1 and max(max(shape) for shape in seen) == 128
    batch = {**model.trainer.train_loader.dataset[0]}
    model.trainer.args = model.trainer.args.replace(multi_scale=0.5)
    sides = []
    for step in range(6):
        model.trainer.progress.step = step
        sides.append(tuple(model.trainer._rescaled(batch["img"][None].float()).shape[2:]))
    ratio = batch["img"].shape[1] / batch["img"].shape[2]
    assert len(set(sides)) > 1 and all(abs(h - ratio * w) <= 32 for h, w in sides)


# ------------------------------------------------------------------------------------------------ optimizer, arguments
def test_a_long_automatic_run_of_yolo_takes_musgd(data: Path, tmp_path: Path) -> None:
    overrides = {**FAST_RUN, "data": str(data), "project": str(tmp_path), "recipe": "ultralytics", "batch": 4}
    trainer = DetectionTrainer(overrides={**overrides, "epochs": 10_001, "nbs": 1})
    trainer.model = trainer.get_model(cfg=V26, verbose=False)
    trainer._setup_train()
    optimizer = trainer.optimizer
    assert type(optimizer).__name__ == "MuSGD" and trainer.warmup.momentum == 0.9
    kinds = {(g["param_group"], round(g["initial_lr"], 3)) for g in optimizer.param_groups}
    assert kinds == {(kind, lr) for kind in ("muon", "bn", "bias") for lr in (0.01, 0.03)}
    assert trainer.args.optimizer == "MuSGD" and trainer.args.warmup_bias_lr == 0.0
    short = DetectionTrainer(overrides={**overrides, "epochs": 3, "nbs": 1})
    short.model = short.get_model(cfg=V26, verbose=False)
    short._setup_train()
    assert type(short.optimizer).__name__ == "AdamW"


@pytest.mark.parametrize("given", [{"loss": "mal"}, {"box_loss": "ciou"}, {"aux_groups": 2}])
def test_loss_arguments_of_queries_warn(
    given: dict[str, Any], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = DetectionTrainer(overrides={**FAST_RUN, "data": str(data), "project": str(tmp_path), **given})
    trainer.model = trainer.get_model(cfg=V8, verbose=False)
    trainer.set_model_attributes()
    (name,) = given
    assert f"{name}={given[name]} has no effect: it belongs to losses that match" in capsys.readouterr().out


def test_arguments_of_suppression_warn_in_families_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    model = RTDETR(TINY)
    model.predict(np.full((64, 64, 3), 90, np.uint8), imgsz=64, device="cpu", nms=False, rect=True)
    out = capsys.readouterr().out
    assert "nms=False has no effect" in out and "rect=True has no effect: RT-DETR takes square inputs" in out


def test_a_plain_network_has_one_branch(capsys: pytest.CaptureFixture[str]) -> None:
    model = YOLODetectionModel(V8, verbose=False)
    assert not model.end2end
    YOLO(V8).predict(np.full((64, 64, 3), 90, np.uint8), imgsz=64, device="cpu", nms=False)
    assert "no one-to-one branch" in capsys.readouterr().out


@pytest.mark.parametrize("moved", [False, True])
def test_a_file_may_order_classes_that_tie_in_a_place_in_another_way(tmp_path: Path, moved: bool) -> None:
    """All classes score the same but for rounding, as in a network that was hardly trained; a moved box is found."""
    network = spread(V8).model.eval()
    for tower in network.head.cv3:
        last = tower[-1]
        with torch.no_grad():
            last.weight.copy_(last.weight[:1].expand_as(last.weight))
            last.bias.copy_(last.bias[:1].expand_as(last.bias))
    args = get_cfg(overrides={"format": "torchscript", "imgsz": 64, "task": "detect"})
    export = Export(network, args, tmp_path / "a", None, DetectionPredictor, DetectionValidator)

    def file(images: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = export.reference(images)[0].clone()  # (B, 4 + nc, A)
        rows[:, 4:] *= 1 + 1e-6 * torch.rand(rows[:, 4:].shape, generator=torch.Generator().manual_seed(0))
        rows[:, 0] += 16 * moved
        return rows

    reasons = export.compare(file).reasons(TOLERANCES["fp32"])  # type: ignore[arg-type]
    assert bool(reasons) is moved


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize(
    "how", [{}, {"conf": 0.0}, {"classes": [1]}, {"agnostic_nms": True}, {"augment": True}, {"max_det": 3}]
)
def test_boxes_are_those_of_all_anchors(how: dict[str, Any], amp: bool) -> None:
    shapes: list[torch.Size] = []

    class Sees(DetectionPredictor):
        def postprocess(self, preds: Any, img: torch.Tensor, orig_imgs: Any) -> Any:
            shapes.append(preds[0].shape)
            return super().postprocess(preds, img, orig_imgs)

    images, options = [NOISE, NOISE[::-1].copy()], {**PREDICT, "conf": 0.5, "batch": 2, "amp": amp, **how}
    model = spread(V8)
    found = [result.boxes.data for result in model.predict(images, **options)]
    wanted = [result.boxes.data for result in spread(V8).predict(images, predictor=Sees, **options)]
    assert sum(map(len, found)) and ("augment" in how or shapes[0][2] == 80)  # what is replaced sees all anchors
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-3)


def test_a_hook_on_the_head_sees_all_anchors() -> None:
    model, shapes = spread(V8), []
    handle = model.model.head.register_forward_hook(lambda _m, _x, y: shapes.append(y[0].shape))
    model.predict(NOISE, **{**PREDICT, "conf": 0.9})
    handle.remove()
    assert shapes == [(1, 7, 80)]
