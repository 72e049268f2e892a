"""What heat maps and the comparison of exports ask of a head, for the families beside RT-DETR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.models.dfine.networks import FINE, SECOND
from tests.models.yolo.networks import DUAL, NOISE, V8, spread
from ultralytics import RTDETR, YOLO
from ultralytics.engine.export.tie_breaking import TieResolver
from ultralytics.models.rtdetr.explain import gradient_maps, sampling_points
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.families import find_family
from ultralytics.utils.errors import ConfigError

IMAGE: dict[str, Any] = {"imgsz": 64, "device": "cpu", "amp": False}


def detr(yaml: dict[str, Any]) -> RTDETR:
    torch.manual_seed(0)
    model = RTDETR(yaml)
    for parameter in model.model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.15)
    return model


@pytest.fixture(scope="module", params=["dfine", "rtdetrv2", "yolo", "dual"])
def model(request: pytest.FixtureRequest) -> Any:
    made = {"dfine": lambda: detr(FINE), "rtdetrv2": lambda: detr(SECOND), "yolo": lambda: spread(V8)}
    return made.get(request.param, lambda: spread(DUAL))()


@pytest.mark.parametrize("nms", [None, False])
def test_the_explained_detection_is_the_prediction(model: Any, nms: bool | None, tmp_path: Path) -> None:
    if nms is False and not getattr(model.model.model[-1], "is_dual", False):
        pytest.skip("the head has one branch")
    given = {**IMAGE, **({} if nms is None else {"nms": nms})}
    best = model.predict(NOISE, conf=0.0, **given)[0].boxes
    (found,) = model.heatmap(NOISE, query=0, project=str(tmp_path), **given)
    assert float(found.arrays["score"]) == pytest.approx(float(best.conf[0]), abs=1e-4)
    np.testing.assert_allclose(found.box, best.xyxy[0].clamp(0, 64), atol=2e-2)
    assert found.values.shape == (64, 64) and (tmp_path / "heatmap" / "image0_hirescam.png").is_file()
    only = model.heatmap(NOISE, classes=[2], save=False, **given)[0]
    assert int(only.arrays["cls"]) == 2


def test_maps_are_the_gradients_of_the_logit(model: Any) -> None:
    network = model.model.eval()
    x = torch.from_numpy(NOISE.transpose(2, 0, 1).copy())[None].float() / 255
    (found,), choice = gradient_maps(network, x, [2])
    kept: list[torch.Tensor] = []
    handle = network.model[2].register_forward_hook(lambda module, args, out: kept.append(out) or out.retain_grad())
    with torch.enable_grad():
        places = find_family(network).places
        scored = places(network.model[-1], network(x.requires_grad_()), (64, 64))
        scored.logits[choice.query, choice.cls].backward()
    handle.remove()
    grad, value = kept[0].grad[0], kept[0].detach()[0]
    want = (grad.mean((1, 2), keepdim=True) * value).sum(0).relu()
    torch.testing.assert_close(found.map, want, atol=1e-6, rtol=1e-3)


def test_sampling_points_of_levels_with_different_counts() -> None:
    network = detr(FINE).model.eval()
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found, _ = sampling_points(network, x)
    assert found.points.shape == (2, 4, 3, 6, 2) and found.weights.shape == (2, 4, 3, 6)
    assert not found.weights[:, :, 0, 3:].any() and not found.weights[:, :, 2, 3:].any()
    torch.testing.assert_close(found.weights.sum((2, 3)), torch.ones(2, 4))


def test_a_head_without_sampling_points_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kind=sampling: a Detect head has no sampling points"):
        spread(V8).heatmap(NOISE, kind="sampling", save=False, **IMAGE)


def test_a_choice_among_equals_explains_a_file() -> None:
    """On a flat image many places have one score: a file may have taken others than the model."""
    network = detr(FINE).model.eval()
    backend = AutoBackend(network)
    image = torch.full((1, 3, 128, 128), 0.5)
    head = backend.model.model[-1]
    with torch.no_grad():
        usual = backend(image)[0][0]
        with head.selecting_by(lambda score, queries: score.shape[1] - 1 - head.best_tokens(score.flip(1), queries)):
            other = backend(image)[0][0]
    assert not torch.allclose(usual[:, :4], other[:, :4], atol=1e-3)
    rows, swapped = TieResolver(backend)(image, other)
    assert swapped > 0 and torch.allclose(rows[:30, 4].float(), other[:, 4], atol=1e-5)
    with pytest.raises(TypeError, match="Detect does not select queries"):
        TieResolver(AutoBackend(YOLO(V8).model))


@pytest.mark.parametrize("form", ["torchscript", "onnx"])
def test_exports_of_d_fine_pass_the_gate(form: str, tmp_path: Path) -> None:
    model = detr(FINE)
    model.save(tmp_path / "net.pt")
    opened = RTDETR(RTDETR(tmp_path / "net.pt").export(format=form, imgsz=64))
    want, got = (m.predict(NOISE, conf=0.0, **IMAGE)[0].boxes for m in (model, opened))
    torch.testing.assert_close(got.conf, want.conf, atol=1e-4, rtol=0)


@pytest.mark.parametrize("nms", [None, True])
def test_exports_of_yolo_as_onnx_pass_the_gate(nms: bool | None, tmp_path: Path) -> None:
    model = spread(DUAL)
    model.save(tmp_path / "net.pt")
    opened = YOLO(YOLO(tmp_path / "net.pt").export(format="onnx", imgsz=64, nms=nms, iou=0.5))
    want, got = (m.predict(NOISE, conf=0.25, iou=0.5, **IMAGE)[0].boxes for m in (model, opened))
    assert len(got) == len(want) > 0
    torch.testing.assert_close(got.conf, want.conf, atol=1e-4, rtol=0)
