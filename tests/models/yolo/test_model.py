"""`YOLO(...)`: the family of each file, and tiny networks of it trained, validated, run, resumed and exported."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from tests.engine.tiny import FAST_RUN, TINY, draw, write_dataset
from tests.golden.fill import tensor
from tests.models.yolo.networks import V8, V26
from ultralytics import RTDETR, YOLO, SHViTClassifier
from ultralytics.engine.training.optimizer import freeze_layers
from ultralytics.models.yolo.detect import DetectionPredictor, DetectionTrainer, DetectionValidator
from ultralytics.nn.families import FAMILIES, PostOptions, find_family, letterboxes
from ultralytics.nn.yolo import YOLODetectionModel, detect_rows
from ultralytics.utils.errors import ConfigError, NotFoundError
from ultralytics.utils.losses.yolo import E2ELoss
from ultralytics.utils.ops import xywh2xyxy

GOLDEN = Path(__file__).parents[2] / "golden" / "yolo"

RUN: dict[str, Any] = {**FAST_RUN, "name": "run"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("yolo") / "data")


@pytest.fixture(scope="module", params=["v8", "26"])
def trained(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> YOLO:
    """A network after two epochs, with the folder of its run in `trainer.save_dir`."""
    model = YOLO(V8 if request.param == "v8" else V26)
    model.train(data=str(data), project=str(tmp_path_factory.mktemp(request.param)), letterbox=None, box=7.0, **RUN)
    return model


def columns(model: YOLO) -> str:
    return (model.trainer.save_dir / "results.csv").read_text().splitlines()[0]


# ---------------------------------------------------------------------------------------------------- what is opened
def test_each_yaml_opens_as_its_family() -> None:
    assert type(YOLO(V8)) is YOLO and type(YOLO(V8).model) is YOLODetectionModel
    assert YOLO(V8).task_map["detect"]["trainer"] is DetectionTrainer
    assert RTDETR(V8).task_map["detect"]["validator"] is DetectionValidator
    other = YOLO(TINY)
    assert type(other) is RTDETR and other.task_map == RTDETR(TINY).task_map
    assert YOLO(other).model is other.model


def test_a_classifier_opens_as_one(tmp_path: Path) -> None:
    model = YOLO("shvit_s1.yaml")
    assert type(model) is SHViTClassifier and model.task == "classify"
    again = YOLO(model.save(tmp_path / "c.pt"))
    assert type(again) is SHViTClassifier and again.task == "classify"
    with pytest.raises(ConfigError, match="holds a model of task classify, not detect"):
        YOLO(tmp_path / "c.pt", task="detect")


def test_the_letter_of_a_name_is_its_scale() -> None:
    model = YOLO("yolov8n.yaml")
    assert sum(p.numel() for p in model.model.parameters()) == 3_157_200  # as published
    assert model.model.yaml["scale"] == "n" and model.model_name == "yolov8n"
    with pytest.raises(NotFoundError, match="yolov8q"):
        YOLO("yolov8q.yaml")


@pytest.mark.parametrize(
    ("model", "task", "message"),
    [
        ("yolov8n.yaml", "segment", "task=segment: instance segmentation is not part of this package"),
        ("yolov8n.yaml", "track", "task=track is a mode, not a task"),
        ("yolov8n-pose.pt", None, "yolov8n-pose.pt: pose estimation is not part"),
        ("yolo11n-obb.yaml", None, "detection of rotated boxes"),
    ],
)
def test_what_is_not_here_gets_one_clear_message(model: str, task: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        YOLO(model, task=task)
    assert len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize("name", ["profile"])
@pytest.mark.parametrize("source", [V8, TINY])
def test_methods_that_are_not_here_name_the_class_and_a_remedy(name: str, source: dict[str, Any]) -> None:
    model = YOLO(source)
    with pytest.raises(AttributeError, match=rf"^{type(model).__name__}\.{name}: .*(predict|train|benchmark)\("):
        getattr(model, name)


# -------------------------------------------------------------------------------------------------- the whole circle
def test_a_run_names_the_terms_and_records_the_geometry(trained: YOLO) -> None:
    third = "dfl_loss" if trained.model.head.reg_max > 1 else "l1_loss"
    assert all(f"{split}/{name}" in columns(trained) for split in ("train", "val") for name in ("box_loss", third))
    assert isinstance(trained.trainer, DetectionTrainer) and isinstance(trained.trainer.validator, DetectionValidator)
    args = trained.trainer.args
    assert (args.letterbox, args.box, args.clip_norm) == (True, 7.0, 10.0)
    assert trained.overrides["letterbox"] is True


def test_it_predicts_in_the_image(trained: YOLO, capsys: pytest.CaptureFixture[str]) -> None:
    image = draw((64, 128), [[1, 0.2, 0.5, 0.2, 0.6]])
    (every,) = trained.predict(image, imgsz=64, conf=0.0, iou=1.0, max_det=30, device="cpu", amp=False)
    (few,) = trained.predict(image, imgsz=64, conf=0.0, iou=0.3, max_det=30, device="cpu", amp=False)
    assert isinstance(trained.predictor, DetectionPredictor) and trained.predictor.args.iou == 0.3
    assert len(every.boxes) == 30 and 0 < len(few.boxes) < 30
    boxes = every.boxes.xyxy
    assert (boxes >= 0).all() and (boxes[:, 0::2] <= 128).all() and (boxes[:, 1::2] <= 64).all()
    only = trained.predict(image, imgsz=64, conf=0.0, classes=[2], device="cpu", amp=False)[0]
    assert len(only.boxes) and set(only.boxes.cls.tolist()) == {2.0}
    assert "no effect" not in capsys.readouterr().out
    views = trained.predict(image, imgsz=64, conf=0.0, augment=True, device="cpu", amp=False)[0]
    assert len(views.boxes)


def test_saved_and_loaded_it_is_the_same(trained: YOLO, data: Path, tmp_path: Path) -> None:
    again = YOLO(trained.save(tmp_path / "saved.pt"))
    assert type(again) is YOLO and again.names == trained.names
    ours, theirs = trained.model.state_dict(), again.model.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(v, theirs[k]) for k, v in ours.items())
    report = again.val(data=str(data), imgsz=64, batch=2, workers=0, plots=False, device="cpu", project=str(tmp_path))
    assert 0 <= report.box.map <= 1


def test_an_exported_file_gives_the_same_boxes(trained: YOLO, data: Path, tmp_path: Path) -> None:
    copied = YOLO(trained.save(tmp_path / "net.pt"))
    opened = YOLO(copied.export(format="torchscript", imgsz=128, data=str(data)))  # images that lie in it as 96 x 128
    assert type(opened) is YOLO and opened.overrides["letterbox"] is True
    image = draw((90, 60), [[0, 0.5, 0.5, 0.4, 0.4]])
    same: dict[str, Any] = {"imgsz": 128, "conf": 0.0, "iou": 0.6, "max_det": 20, "rect": False, "amp": False}
    want, got = (model.predict(image, **same)[0].boxes for model in (copied, opened))
    torch.testing.assert_close(got.conf, want.conf, atol=1e-5, rtol=0)
    torch.testing.assert_close(got.xyxy, want.xyxy, atol=1e-2, rtol=0)
    assert opened.val(data=str(data), imgsz=128, batch=1, workers=0, plots=False, project=str(tmp_path)).box.map >= 0


def test_a_resumed_run_equals_the_uninterrupted_one(data: Path, tmp_path: Path) -> None:
    whole, parts = YOLO(V26), YOLO(V26)
    given: dict[str, Any] = {**RUN, "data": str(data), "epochs": 3, "optimizer": "MuSGD", "lr0": 0.01}
    whole.train(project=str(tmp_path / "whole"), **given)

    def stop(trainer: Any) -> None:
        if trainer.epoch == 0:
            shutil.copytree(trainer.save_dir, tmp_path / "half")

    parts.add_callback("on_fit_epoch_end", stop)
    parts.train(project=str(tmp_path / "parts"), **given)
    resumed = YOLO(tmp_path / "half" / "weights" / "last.pt")
    resumed.train(resume=True)
    assert resumed.trainer.start_epoch == 1
    criterion = resumed.trainer.model.criterion
    assert isinstance(criterion, E2ELoss) and criterion.updates == 2
    assert criterion.o2m == pytest.approx(0.1)  # of the last of three epochs
    ours, theirs = (run.trainer.model.state_dict() for run in (resumed, whole))
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_the_weight_of_the_branches_follows_the_epoch() -> None:
    network = YOLODetectionModel(V26, verbose=False)
    network.args = {"epochs": 10}
    seen = []
    for epoch in (0, 1, 9, 4):
        network.start_epoch(epoch, 10)
        seen.append(network.criterion.o2m)
    assert seen == pytest.approx([0.8, 0.8 - 0.7 / 9, 0.1, 0.8 - 0.7 * 4 / 9])


# ----------------------------------------------------------------------------------------------- arguments, constants
def test_arguments_of_the_family_act_here_and_warn_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    image = np.full((32, 32, 3), 90, np.uint8)
    given: dict[str, Any] = {"imgsz": 32, "device": "cpu", "iou": 0.5, "agnostic_nms": True}
    model = YOLO(V8)
    model.predict(image, **given)
    assert "no effect" not in capsys.readouterr().out and model.predictor.args.agnostic_nms
    other = RTDETR(TINY)
    other.predict(image, **given)
    out = capsys.readouterr().out
    assert "iou=0.5 has no effect" in out and "agnostic_nms=True has no effect" in out
    assert other.predictor.args.iou == 0.7


def test_class_weights_reach_the_loss(data: Path, tmp_path: Path) -> None:
    trainer = DetectionTrainer(overrides={**RUN, "data": str(data), "project": str(tmp_path), "cls_pw": 1.0})
    trainer.model = trainer.get_model(cfg=V8, verbose=False)  # type: ignore[arg-type]
    trainer._setup_train()
    weights = trainer.model.class_weights
    counts = torch.tensor([2.0, 3.0, 1.0])  # of the drawn images
    torch.testing.assert_close(weights, (1 / counts) / (1 / counts).mean())
    trainer.model.start_epoch(0, 1)
    assert trainer.model.criterion.class_weights is weights


def test_fixed_bins_are_never_trained() -> None:
    network = YOLODetectionModel(V8, verbose=False)
    assert freeze_layers(network, None) == ["model.9.dfl.conv.weight"]
    assert not network.head.dfl.conv.weight.requires_grad
    assert not freeze_layers(YOLODetectionModel(V26, verbose=False), None)


def test_an_argument_of_the_user_decides_the_geometry() -> None:
    yolo, other = YOLO(V8).model, RTDETR(TINY).model
    assert letterboxes(yolo, None) and not letterboxes(yolo, False)
    assert letterboxes(other, True) and not letterboxes(other, None)
    assert find_family(None) is None and not letterboxes(None, None)


def test_heads_are_found_by_name_with_their_base_class() -> None:
    yolo = FAMILIES.named("yolo")
    assert FAMILIES.of_head_name("Detect") is yolo and FAMILIES.of_head_name("v10Detect") is yolo
    assert FAMILIES.of_head_name("NoSuchHead") is None and FAMILIES.of_head_name("") is None


def test_a_place_may_have_several_classes() -> None:
    y = torch.tensor([[[32.0], [16.0], [8.0], [8.0], [0.6], [0.5]]])  # one anchor, two classes
    one = detect_rows(y, (64, 64), PostOptions(0.1, 10))
    two = detect_rows(y, (64, 64), PostOptions(0.1, 10, multi_label=True))
    torch.testing.assert_close(one[0], torch.tensor([[0.5, 0.25, 0.125, 0.125, 0.6, 0.0]]))
    torch.testing.assert_close(two[0][:, 4:], torch.tensor([[0.6, 0.0], [0.5, 1.0]]))
    assert detect_rows(y, (64, 64), PostOptions(0.9, 10))[0].shape == (0, 6)


# -------------------------------------------------------------------------------------------- genuine files of others
def test_a_genuine_file_gives_the_numbers_of_its_author() -> None:
    golden = np.load(GOLDEN / "genuine.npz")
    for name, form in (("v8", "y"), ("26", "y"), ("26", "y_e2e")):
        model = YOLO(GOLDEN / f"upstream_tiny_{name}.pt")
        assert model.task == "detect" and model.names == {0: "Tree"} and type(model.model).__name__ == "DetectionModel"
        network = model.model.float().eval()
        network.end2end = form == "y_e2e"
        with torch.no_grad():
            y = network(tensor(f"ckpt_tiny_{name}/img", [2, 3, 96, 64], "image"))[0]
        want = torch.from_numpy(golden[f"{name}_{form}"])
        if form == "y":
            torch.testing.assert_close(y, want, atol=1e-3, rtol=0)
            continue
        for ours, theirs in zip(y, want, strict=True):  # rows of equal score may change places
            torch.testing.assert_close(ours[:, 4], theirs[:, 4], atol=1e-5, rtol=0)
            distance = torch.cdist(ours[:, :4].double(), theirs[:, :4].double())
            assert distance.amin(1).max() < 1e-2


def test_a_genuine_file_predicts(tmp_path: Path) -> None:
    """Boxes of `predict` are those of the network, letterboxed by hand, after a suppression of quadratic time."""
    image = draw((48, 96), [[0, 0.3, 0.5, 0.3, 0.5]])
    cv2.imwrite(str(tmp_path / "x.png"), image)
    model = YOLO(GOLDEN / "upstream_tiny_v8.pt")
    options: dict[str, Any] = {"imgsz": 96, "conf": 0.001, "iou": 0.5, "device": "cpu", "amp": False, "rect": False}
    (result,) = model.predict(str(tmp_path / "x.png"), **options)
    padded = np.full((96, 96, 3), 114, np.uint8)
    padded[24:72] = image
    x = torch.from_numpy(padded[..., ::-1].transpose(2, 0, 1).copy())[None].float() / 255
    with torch.no_grad():
        y = model.model.float().eval()(x)[0][0].T  # (A, 5)
    y = y[y[:, 4] > 0.001]
    y = y[y[:, 4].argsort(descending=True)]
    kept: list[torch.Tensor] = []
    for row in torch.cat([xywh2xyxy(y[:, :4]), y[:, 4:]], 1):
        if all(overlap(row, other) <= 0.5 for other in kept):
            kept.append(row)
    want = torch.stack(kept)
    want[:, 1:4:2] -= 24
    want[:, 0:4:2].clamp_(0, 96)
    want[:, 1:4:2].clamp_(0, 48)
    assert len(result.boxes) == len(want) > 0
    torch.testing.assert_close(result.boxes.conf, want[:, 4], atol=1e-4, rtol=0)
    torch.testing.assert_close(result.boxes.xyxy, want[:, :4], atol=2e-2, rtol=0)


def overlap(a: torch.Tensor, b: torch.Tensor) -> float:
    width = float(min(a[2], b[2]) - max(a[0], b[0]))
    height = float(min(a[3], b[3]) - max(a[1], b[1]))
    inside = max(width, 0.0) * max(height, 0.0)
    area = sum(float((box[2] - box[0]) * (box[3] - box[1])) for box in (a, b))
    return inside / (area - inside)
