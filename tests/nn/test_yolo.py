"""Networks of the YOLO family: names with a scale letter, strides, losses, views, transfer, genuine checkpoints."""

from __future__ import annotations

import copy
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.golden.fill import fill_
from ultralytics.nn import tasks
from ultralytics.nn.build.spec import find_model_yaml, guess_model_scale, load_model_yaml
from ultralytics.nn.families import PostOptions, family_of
from ultralytics.nn.tasks import load_checkpoint, pack_model, unpack_model
from ultralytics.nn.yolo import YOLODetectionModel, detect_rows
from ultralytics.utils.errors import CheckpointError, ModelYAMLError, NotFoundError
from ultralytics.utils.losses.yolo import E2ELoss
from ultralytics.utils.metrics import box_iou
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.ops import xywh2xyxy

GENUINE = Path(__file__).parents[3] / "shared" / "weights" / "yolov8n_genuine.pt"


def rows(**keys: Any) -> dict[str, Any]:
    """A small network of two levels."""
    return {
        "nc": 3,
        **keys,
        "backbone": [
            [-1, 1, "Conv", [8, 3, 2]],
            [-1, 1, "Conv", [16, 3, 2]],
            [-1, 1, "C2f", [16, True]],
            [-1, 1, "Conv", [24, 3, 2]],
            [-1, 1, "Conv", [32, 3, 2]],
            [-1, 1, "SPPF", [32, 5]],
        ],
        "head": [[[3, 5], 1, "Detect", ["nc"]]],
    }


def network(**kwargs: Any) -> YOLODetectionModel:
    yaml = kwargs.pop("yaml", None) or rows(**kwargs.pop("keys", {}))
    return fill_(YOLODetectionModel(yaml, verbose=False, **kwargs), conv_gain=1.2)


def targets(index: list[int]) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    n = len(index)
    boxes = torch.cat((0.3 + 0.4 * torch.rand(n, 2, generator=g), 0.2 + 0.2 * torch.rand(n, 2, generator=g)), 1)
    img = torch.rand(3, 3, 64, 96, generator=g)
    return {"img": img, "batch_idx": torch.tensor(index).float(), "cls": torch.arange(n).float() % 3, "bboxes": boxes}


# ------------------------------------------------------------------------------------------------------- names, build
@pytest.mark.parametrize(
    ("name", "file", "letter"),
    [
        ("yolov8s.yaml", "yolov8.yaml", "s"),
        ("yolov8m-ghost-p2.yaml", "yolov8-ghost-p2.yaml", "m"),
        ("yolov5x6.yaml", "yolov5-p6.yaml", "x"),
        ("yolo11l.yaml", "yolo11.yaml", "l"),
        ("yolov9c.yaml", "yolov9c.yaml", ""),
        ("yolov10n.yaml", "yolov10n.yaml", "n"),
    ],
)
def test_a_name_with_a_scale_letter_finds_the_common_file(name: str, file: str, letter: str) -> None:
    assert (find_model_yaml(name).name, guess_model_scale(name)) == (file, letter)
    assert load_model_yaml(name).scale_name == letter


def test_what_the_user_writes_is_stronger_than_the_name(tmp_path: Path) -> None:
    text = find_model_yaml("yolo11.yaml").read_text()
    own = tmp_path / "yolo11s.yaml"
    own.write_text(text)
    assert load_model_yaml(own).scale_name == "s"
    assert load_model_yaml(own, scale="x").scale_name == "x"
    own.write_text(text + "\nscale: m\n")
    assert load_model_yaml(own).scale_name == "m"


def test_letters_of_folders_and_other_families_are_not_scales(tmp_path: Path) -> None:
    assert guess_model_scale(tmp_path / "yolo11x" / "net.yaml") == "" and guess_model_scale("rtdetr-l.yaml") == ""
    with pytest.raises(NotFoundError, match=r"yolov99n\.yaml"):
        find_model_yaml("yolov99n.yaml")


@pytest.mark.parametrize(
    ("name", "strides"),
    [("yolov8n-p6.yaml", [8, 16, 32, 64]), ("yolo26n-p2.yaml", [4, 8, 16, 32]), ("yolov3-tiny.yaml", [16, 32])],
)
def test_strides_come_from_the_maps(name: str, strides: list[int]) -> None:
    with torch.device("meta"):
        model = YOLODetectionModel(name, verbose=False)
    assert model.stride.tolist() == strides == model.head.stride.tolist()


def test_the_class_has_the_name_that_scripts_know() -> None:
    assert YOLODetectionModel.__name__ == YOLODetectionModel.__qualname__ == "DetectionModel"
    assert pickle.loads(pickle.dumps(YOLODetectionModel)) is YOLODetectionModel
    assert issubclass(YOLODetectionModel, tasks.DetectionModel) and tasks.YOLODetectionModel is YOLODetectionModel


def test_another_head_is_refused() -> None:
    with pytest.raises(ModelYAMLError, match="Detect head"):
        YOLODetectionModel("rtdetr-resnet18.yaml", verbose=False)


# ------------------------------------------------------------------------------------------------- prediction, views
@torch.no_grad()
def test_boxes_lie_in_pixels_of_a_wide_image() -> None:
    model = network().eval()
    y, raw = model(targets([])["img"])
    assert y.shape == (3, 7, 8 * 12 + 4 * 6) and raw["boxes"].shape == (3, 64, 120)
    points = model.head._anchors(raw["feats"], y)
    assert points.points[:, 95].tolist() == [11.5, 7.5] and points.strides[0, [0, 95, 96]].tolist() == [8, 8, 16]


@torch.no_grad()
def test_the_mirrored_view_is_mirrored_back() -> None:
    """A network that answers the same for a mirrored image gives the mirrored boxes in the second view."""
    model = network().eval()
    image = torch.rand(1, 3, 96, 96)
    y, raw = model(image, augment=True)
    cells = [(96 // 8) ** 2 + (96 // 16) ** 2] * 3
    coarse, fine = cells[0] // 5, cells[2] // 5 * 4
    assert raw is None and y.shape[2] <= sum(cells) - coarse - fine
    plain = model(image)[0]
    torch.testing.assert_close(y[..., : cells[0] - coarse], plain[..., : cells[0] - coarse])


@torch.no_grad()
def test_views_of_nms_free_rows_are_refused_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    model = network(keys={"end2end": True, "reg_max": 1}).eval()
    model.end2end = True
    image = torch.rand(1, 3, 64, 64)
    with caplog.at_level(logging.WARNING):
        y, _ = model(image, augment=True)
    assert "augment=True" in caplog.text and torch.equal(y, model(image)[0])


# --------------------------------------------------------------------------------------------------------------- loss
@pytest.mark.parametrize("keys", [{}, {"end2end": True, "reg_max": 1}])
@pytest.mark.parametrize("index", [[], [0, 2, 2], [2, 0, 2]])
def test_every_batch_trains(keys: dict[str, Any], index: list[int]) -> None:
    model = network(keys=keys).train()
    total, items = model.loss(targets(index))
    total.sum().backward()
    trained = [p for n, p in model.named_parameters() if "dfl" not in n]
    assert total.shape == (3,) and list(items) == list(model.init_criterion().loss_names)
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in trained)
    assert isinstance(model.criterion, E2ELoss) is bool(keys)


def test_a_trainer_gets_one_number_and_the_parts() -> None:
    model, batch = network().train(), targets([0, 1])
    total, items = model(batch)
    terms, named = model.loss(batch)
    torch.testing.assert_close(total, terms.sum())
    assert items.tolist() == [float(v) for v in named.values()] and len(model.family.loss_names) == len(items)


def test_training_finds_the_targets() -> None:
    torch.manual_seed(1)
    model = YOLODetectionModel(rows(), verbose=False).train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    batch = targets([0, 1, 2])
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(batch)[0].sum().backward()
        optimizer.step()
    with torch.no_grad():
        raw = model(batch["img"])  # with the statistics of the batch, as trained
    best = raw["scores"].amax(1).argmax(1)
    boxes = model.head.decode(raw, xywh=False)[torch.arange(3), :, best]
    wanted = xywh2xyxy(batch["bboxes"]) * torch.tensor([96.0, 64.0, 96.0, 64.0])
    assert float(box_iou(boxes, wanted).diagonal().mean()) > 0.5


@torch.no_grad()
def test_loss_of_a_prediction_in_eval_mode() -> None:
    model = network().eval()
    batch = targets([0, 1])
    total, _ = model.loss(batch, model(batch["img"]))
    again, _ = model.loss(batch)
    torch.testing.assert_close(total, again)


# ----------------------------------------------------------------------------------------------------------- transfer
def test_class_towers_of_another_width_are_taken() -> None:
    source = network(nc=90)
    target = network(nc=2)
    report = target.load(source, verbose=False)
    assert all(".cv3." in k and k.split(".")[4] == "2" for k in report.fresh)
    theirs, mine = source.state_dict(), target.state_dict()
    assert torch.equal(mine["model.6.cv3.0.1.conv.weight"], theirs["model.6.cv3.0.1.conv.weight"])
    assert bool((mine["model.6.cv2.0.2.bias"] == theirs["model.6.cv2.0.2.bias"]).all())


def test_class_rows_follow_their_names() -> None:
    source, target = network(nc=3), network(nc=2)
    source.names, target.names = {0: "cat", 1: "dog", 2: "bus"}, {0: "bus", 1: "tree"}
    before = target.state_dict()["model.6.cv3.1.2.bias"].clone()
    target.load(source, verbose=False)
    after = target.state_dict()["model.6.cv3.1.2.bias"]
    assert after[0] == source.state_dict()["model.6.cv3.1.2.bias"][2] and after[1] == before[1]


@pytest.mark.parametrize("channels", [1, 5])
def test_the_first_convolution_fits_other_channels(channels: int) -> None:
    source, target = network(), network(ch=channels)
    own = target.state_dict()["model.0.conv.weight"].clone()
    target.load(source, verbose=False)
    kernel, want = target.state_dict()["model.0.conv.weight"], source.state_dict()["model.0.conv.weight"]
    if channels == 1:
        torch.testing.assert_close(kernel[:, 0], want.sum(1))
    else:
        assert torch.equal(kernel[:, :3], want) and torch.equal(kernel[:, 3:], own[:, 3:])


def test_fused_weights_are_refused() -> None:
    fused = copy.deepcopy(network()).eval().fuse(verbose=False)
    with pytest.raises(CheckpointError, match="fused"):
        network().load(fused, verbose=False)


@torch.no_grad()
@pytest.mark.parametrize(("letter", "count"), [("n", 2_713_488), ("x", 58_217_568)])
def test_yolo11_with_shsa_begins_as_yolo11(letter: str, count: int) -> None:
    name = f"yolo11{letter}-shsa.yaml"
    with torch.device("meta"):
        assert sum(p.numel() for p in YOLODetectionModel(name, verbose=False).parameters()) == count
    if letter != "n":
        return
    source, target = network(yaml="yolo11n.yaml", nc=3).eval(), network(yaml=name, nc=3).eval()
    report = target.load(source, verbose=False)
    assert {key.split(".")[1] for key in report.fresh} == {"7", "10"}
    image = torch.rand(1, 3, 64, 96)
    torch.testing.assert_close(target(image)[0], source(image)[0])


# -------------------------------------------------------------------------------------------------------- checkpoints
@torch.no_grad()
@pytest.mark.parametrize("keys", [{}, {"end2end": True, "reg_max": 1}])
def test_a_record_rebuilds_the_network(keys: dict[str, Any]) -> None:
    model = network(keys=keys).eval()
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(unpack_model(pack_model(model))(image)[0], model(image)[0])


@torch.no_grad()
@pytest.mark.skipif(not GENUINE.is_file(), reason="needs shared/weights")
def test_a_genuine_checkpoint_is_read_as_data() -> None:
    model, checkpoint = load_checkpoint(GENUINE)
    assert checkpoint["names_in_file"] == [] and isinstance(model, YOLODetectionModel)
    assert sum(p.numel() for p in model.parameters()) == 3_012_018 and model.names[0] == "Animal"
    y, _ = model(torch.rand(1, 3, 64, 96))
    assert y.shape == (1, 10, 126) and bool(y.isfinite().all())
    y, _ = model(torch.rand(1, 3, 320, 320, generator=torch.Generator().manual_seed(5)))
    want = [4.502305, 7.469590, 9.495710, 15.213964, 1.4168683e-04, 1.3247873e-04]  # of its author's package
    torch.testing.assert_close(y[0, :6, 0], torch.tensor(want), atol=1e-4, rtol=1e-4)


# ------------------------------------------------------------------------------------------------------------- family
@torch.no_grad()
@pytest.mark.parametrize("end2end", [False, True])
def test_rows_of_the_family_lie_in_parts_of_the_input(end2end: bool) -> None:
    model = network(keys={"end2end": True, "reg_max": 1}).eval()
    model.end2end = end2end
    output = model(targets([])["img"])
    rows = detect_rows(output, (64, 96), PostOptions(conf=0.001, max_det=5))
    assert family_of(model).name == "yolo" and len(rows) == 3
    pixels = non_max_suppression(output[0], 0.001, 0.7, max_det=5, end2end=end2end)
    for mine, theirs in zip(rows, pixels, strict=True):
        corners = xywh2xyxy(mine[:, :4]) * torch.tensor([96.0, 64.0, 96.0, 64.0])
        torch.testing.assert_close(corners, theirs[:, :4], atol=1e-3, rtol=1e-4)
        assert torch.equal(mine[:, 4:], theirs[:, 4:]) and len(mine)


@torch.no_grad()
def test_a_wanted_class_is_found_where_another_is_better() -> None:
    model = network().eval()
    output = model(targets([])["img"])
    for label in range(3):
        rows = detect_rows(output, (64, 96), PostOptions(conf=0.001, max_det=9, classes=(label,)))
        assert all(len(r) and set(r[:, 5].tolist()) == {float(label)} for r in rows)
