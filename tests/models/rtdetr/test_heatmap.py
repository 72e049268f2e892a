"""Heat maps from a source to files: places on the original image, arrays on disk, arguments of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import ultralytics
from tests.engine.tiny import NAMES
from tests.models.rtdetr.networks import WITH_SHSA
from ultralytics.cli import main as cli
from ultralytics.models import RTDETR
from ultralytics.models.rtdetr.explain import shsa_attention, shsa_blocks
from ultralytics.models.rtdetr.heatmap import Heatmap, over_original
from ultralytics.models.rtdetr.heatmap_plot import overlay, shown_range
from ultralytics.models.rtdetr.post import stretch_geometry
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.ops import letterbox_geometry


@pytest.fixture(scope="module")
def model() -> RTDETR:
    torch.manual_seed(0)
    model = RTDETR(WITH_SHSA)
    for parameter in model.model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.15)
    for block in shsa_blocks(model.model).values():
        nn.init.constant_(block.proj[1].bn.weight, 0.5)
    model.model.names = dict(NAMES)
    return model


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)


def run(model: RTDETR, image: Any, tmp: Path, **more: Any) -> Heatmap:
    (found,) = model.heatmap(image, imgsz=64, device="cpu", project=str(tmp), **more)
    return found


@pytest.mark.parametrize("kind", ["hirescam", "gradcam", "shsa", "sampling"])
@pytest.mark.parametrize("letterbox", [False, True])
def test_files_hold_what_is_returned(
    model: RTDETR, image: np.ndarray, tmp_path: Path, kind: str, letterbox: bool
) -> None:
    found = run(model, image, tmp_path, kind=kind, query=1, letterbox=letterbox)
    arrays = np.load(tmp_path / "heatmap" / f"image0_{kind}.npz")
    picture = cv2.imread(str(tmp_path / "heatmap" / f"image0_{kind}.png"))
    np.testing.assert_array_equal(picture, found.plot())
    assert set(arrays.files) == set(found.arrays) and int(arrays["rank"]) == 1
    np.testing.assert_allclose(arrays["box"], found.box)
    if kind == "sampling":
        assert arrays["points"].shape == (2, 4, 3, 4, 2) and arrays["weights"].shape == (2, 4, 3, 4)
        np.testing.assert_allclose(arrays["points"][-1].reshape(-1, 2), found.points)
    else:
        assert found.values.shape == (90, 160) and found.values.min() >= 0
        np.testing.assert_array_equal(arrays["values"], found.values)


def test_the_detection_is_the_prediction(model: RTDETR, image: np.ndarray, tmp_path: Path) -> None:
    result = model.predict(image, imgsz=64, device="cpu", conf=0.0, amp=False)[0]
    for rank in (0, 5):
        found = run(model, image, tmp_path, kind="sampling", query=rank, save=False)
        np.testing.assert_allclose(found.box, result.boxes.xyxy[rank], atol=1e-2)
        assert float(found.arrays["score"]) == pytest.approx(float(result.boxes.conf[rank]), abs=1e-5)
    only = run(model, image, tmp_path, kind="hirescam", classes=[2], save=False)
    assert int(only.arrays["cls"]) == 2


def test_a_pixel_asks_from_its_cell(model: RTDETR, image: np.ndarray, tmp_path: Path) -> None:
    """The right bottom pixel asks from the last cell; its map over the image is the one of that cell."""
    found = run(model, image, tmp_path, kind="shsa", pixel=(159, 89), save=False)
    assert found.arrays["cell"].tolist() == [7, 7] and found.pixel == pytest.approx((159.5, 89.5))
    resized = cv2.resize(image, (64, 64), interpolation=cv2.INTER_LINEAR)
    im = torch.from_numpy(resized[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    want = shsa_attention(model.model.eval(), im, place=(0.99, 0.99)).map
    np.testing.assert_allclose(found.arrays["layer_3"], want, atol=1e-4)
    assert found.values.max() == pytest.approx(1)


@pytest.mark.parametrize("layer", ["3,4", "[3, 4]", ["3", 4], (3, 4), "model.3,4"])
def test_several_layers_are_added(model: RTDETR, image: np.ndarray, tmp_path: Path, layer: Any) -> None:
    """The sum of the single maps, each with its own size of gradient, scaled to 1."""
    found = run(model, image, tmp_path, layer=layer, save=False)
    singles = [run(model, image, tmp_path, layer=n, save=False) for n in (3, 4)]
    for n, single in zip((3, 4), singles, strict=True):
        np.testing.assert_array_equal(found.arrays[f"layer_{n}"], single.arrays[f"layer_{n}"])
    total = sum(s.values * s.arrays[f"layer_{n}"].max() for n, s in zip((3, 4), singles, strict=True))
    np.testing.assert_allclose(found.values, total / total.max(), atol=1e-5)


@pytest.mark.parametrize("letterbox", [False, True])
def test_maps_lie_over_the_image(letterbox: bool) -> None:
    """A single hot cell lands where its middle is; what the padding got is cut off."""
    cells = torch.zeros(8, 8)
    cells[4, 2] = 1.0
    shape, network = (80, 160), (64, 64)
    geometry = (letterbox_geometry if letterbox else stretch_geometry)(shape, network)
    values = over_original(cells, network, shape, geometry)
    y, x = np.unravel_index(values.argmax(), values.shape)
    (gain_h, gain_w), (left, top) = geometry
    assert (x + 0.5) * gain_w + left == pytest.approx(2.5 * 8, abs=2) and (y + 0.5) * gain_h + top == pytest.approx(
        36, abs=2
    )
    assert not over_original(torch.zeros(8, 8), network, shape, geometry).any()


def test_where_nothing_is_the_image_stays() -> None:
    image = np.full((4, 5, 3), 100, np.uint8)
    values = np.zeros((4, 5), np.float32)
    values[2, 2] = 1.0
    drawn = overlay(image, values)
    assert (np.abs(drawn.astype(int) - 100).max(-1) > 0).sum() == 1


def test_small_pictures_are_enlarged(model: RTDETR, tmp_path: Path) -> None:
    found = run(model, np.zeros((20, 30, 3), np.uint8), tmp_path, kind="sampling", save=False)
    height, width, _ = found.plot().shape
    assert width == 660 and height > 440  # with its title and legend
    found.labels = False
    assert found.plot().shape == (440, 660, 3)


def test_title_and_colour_bar_stand_beside_the_image(model: RTDETR, image: np.ndarray, tmp_path: Path) -> None:
    found = run(model, image, tmp_path, kind="shsa", save=False, show_labels=False)
    assert not found.labels
    bare = found.plot()
    assert bare.shape[0] == 640 // 160 * 90 and bare.shape[1] > 640
    found.labels = True
    np.testing.assert_array_equal(found.plot()[-bare.shape[0] :], bare)
    found.values = np.zeros((0, 0), np.float32)
    found.labels = False
    assert found.plot().shape == (360, 640, 3)
    assert cv2.imdecode(np.frombuffer(found._repr_png_(), np.uint8), cv2.IMREAD_COLOR).shape == (360, 640, 3)
    assert "shsa layer" in repr(found)


@pytest.mark.parametrize(
    ("values", "from_zero", "want"),
    [
        ([], True, (0.0, 1.0)),
        ([0.98, 0.99, 1.0], False, (0.98, 0.9999)),  # attention that is nearly flat
        ([0.98, 0.99, 1.0], True, (0.0, 1.0)),
        ([0.5, 0.5], False, (0.5, 1.5)),
    ],
)
def test_range_of_colours(values: list[float], from_zero: bool, want: tuple[float, float]) -> None:
    assert shown_range(np.array(values, np.float32), from_zero) == pytest.approx(want, abs=1e-4)


def test_every_detection_that_predict_shows(model: RTDETR, image: np.ndarray, tmp_path: Path) -> None:
    scores = (
        model.predict(image, imgsz=64, conf=0.0, amp=False, verbose=False)[0].boxes.conf.sort(descending=True).values
    )
    conf = float(scores[2] + scores[3]) / 2
    found = model.heatmap(image, imgsz=64, query="all", conf=conf, project=str(tmp_path), device="cpu")
    assert [int(one.arrays["rank"]) for one in found] == [0, 1, 2]
    files = sorted(p.name for p in (tmp_path / "heatmap").glob("*.png"))
    assert files == [f"image0_hirescam_{k}.png" for k in range(3)]
    assert model.heatmap(image, imgsz=64, query="all", conf=1.0, save=False) == []
    with pytest.raises(ConfigError, match="query=best"):
        model.heatmap(image, imgsz=64, query="best", save=False)


def test_several_images_of_one_name(model: RTDETR, image: np.ndarray, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "x.png"), image)
    model.heatmap([tmp_path / "a/x.png", tmp_path / "b/x.png"], kind="shsa", imgsz=64, project=str(tmp_path), name="r")
    names = sorted(p.name for p in (tmp_path / "r").iterdir())
    assert names == ["x_shsa-2.npz", "x_shsa-2.png", "x_shsa.npz", "x_shsa.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "magic"}, "there are hirescam"),
        ({"kind": "gradcam", "pixel": (1, 1)}, "only kind=shsa"),
        ({"kind": "shsa", "pixel": (160, 0)}, "is 160x90 px"),
        ({"kind": "sampling", "layer": 2}, "decoder layers 0 to 1"),
        ({"kind": "sampling", "layer": "a.b"}, "number of a decoder layer"),
        ({"kind": "hirescam", "layer": 77}, "layers 0 to 8"),
        ({"kind": "hirescam", "layer": "3,77"}, "layer=77: there are layers 0 to 8"),
        ({"kind": "hirescam", "layer": "3,"}, "no such module"),
        ({"kind": "shsa", "layer": "3,4"}, "no such module"),
        ({"query": 90}, "detections are numbered"),
    ],
)
def test_what_does_not_go_together(
    model: RTDETR, image: np.ndarray, tmp_path: Path, options: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(model, image, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_command_line(model: RTDETR, image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, photo = str(model.save(tmp_path / "m.pt")), str(tmp_path / "p.png")
    cv2.imwrite(photo, image)
    common = [f"model={weights}", f"source={photo}", "imgsz=64", f"project={tmp_path}", "name=r", "exist_ok=True"]
    cli.entrypoint(["heatmap", *common, "kind=shsa", "pixel=10,20", "layer=3"])
    cli.entrypoint(["heatmap", *common, "query=2", "layer=3,4"])
    arrays = np.load(tmp_path / "r" / "p_hirescam.npz")
    assert {"layer_3", "layer_4"} <= set(arrays.files) and int(arrays["rank"]) == 2
    assert (tmp_path / "r" / "p_shsa.png").is_file()
    for wrong in ("pixel=10", "query=x", "query=1,2"):
        with pytest.raises(SystemExit):
            cli.entrypoint(["heatmap", *common, wrong])
    with pytest.raises(SystemExit):
        cli.entrypoint(["heatmap", f"model={weights}"])
    assert ultralytics.heatmap is not None
