"""Exports of a network small enough to be written in a moment: whole, equal to the model, or not there."""

from __future__ import annotations

import dataclasses
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from tests.engine.tiny import NAMES, TINY
from tests.models.shvit.tiny import TINY as TINY_CLASSIFIER
from ultralytics.engine.export import exporter
from ultralytics.engine.export.exporter import EXPORT_FORMATS, format_name
from ultralytics.models import RTDETR, SHViTClassifier
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.utils.errors import (
    CheckpointError,
    ConfigError,
    ConfigTypeError,
    MissingPackageError,
    UnknownArgumentError,
    UserError,
)

ONNX = pytest.mark.skipif(not (find_spec("onnx") and find_spec("onnxruntime")), reason="needs onnx and onnxruntime")
OPENVINO = pytest.mark.skipif(not find_spec("openvino"), reason="needs openvino")
FAST: dict[str, Any] = {"imgsz": 64, "workers": 0, "simplify": False}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose scores differ from place to place, since equal ones are selected in any order."""
    torch.manual_seed(0)
    model = RTDETR(TINY)
    with torch.no_grad():
        head = model.model.model[-1]
        for part in (*head.dec_score_head, *head.dec_bbox_head, head.enc_score_head):
            for p in part.parameters():
                p.add_(torch.randn_like(p) * 0.1)
    model.model.names = dict(NAMES)
    return model.save(tmp_path_factory.mktemp("weights") / "m.pt")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of noisy images, four to train on and four to validate."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for i in range(4):
            cv2.imwrite(str(root / f"images/{split}/{i}.png"), rng.integers(0, 255, (64, 80, 3), np.uint8))
            (root / f"labels/{split}/{i}.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    yaml = root / "data.yaml"
    yaml.write_text(f"path: {root}\ntrain: images/train\nval: images/val\nnames: [red, green, blue]\n")
    return yaml


@pytest.fixture
def folder(weights: Path, tmp_path: Path) -> Path:
    """A copy of the weights alone in a folder."""
    (tmp_path / "m.pt").write_bytes(weights.read_bytes())
    return tmp_path


def rows(path: Any, shape: tuple[int, ...]) -> torch.Tensor:
    images = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        out = AutoBackend(path)(images)
    return out[0] if isinstance(out, tuple) else out


def assert_same(path: str, model: Path, *shapes: tuple[int, ...]) -> None:
    for shape in shapes:
        torch.testing.assert_close(rows(path, shape), rows(model, shape), rtol=0, atol=1e-4)


SHAPES = [(1, 3, 64, 64), (3, 3, 32, 32), (2, 3, 64, 96), (1, 3, 416, 64)]  # 32: 21 anchors for 30 queries
CASES = [
    pytest.param("torchscript", {}, id="torchscript"),
    pytest.param("torchscript", {"dynamic": True}, id="torchscript-dynamic"),
    pytest.param("onnx", {"opset": 16}, marks=ONNX, id="onnx-16"),
    pytest.param("onnx", {"dynamic": True}, marks=ONNX, id="onnx-17-dynamic"),
    pytest.param("onnx", {"dynamic": True, "opset": 20, "batch": 2}, marks=ONNX, id="onnx-20-dynamic"),
    pytest.param("openvino", {"dynamic": True}, marks=[ONNX, OPENVINO], id="openvino-dynamic"),
]


@pytest.mark.parametrize(("form", "given"), CASES)
def test_a_file_gives_what_the_model_gives(folder: Path, form: str, given: dict[str, Any], caplog: Any):
    path = RTDETR(folder / "m.pt").export(format=form, **FAST, **given)
    assert sorted(p.name for p in folder.iterdir()) == sorted(["m.pt", Path(path).name])  # nothing half-written is left
    shapes = SHAPES if given.get("dynamic") else [(1, 3, 64, 64), (3, 3, 64, 64)]
    assert_same(path, folder / "m.pt", *shapes)
    backend = AutoBackend(path)
    assert backend.names == NAMES and backend.stride == 32 and backend.task == "detect" and not backend.pt
    metadata = backend.metadata
    assert metadata is not None and metadata.source == "m.pt" and len(metadata.source_sha256) == 64
    assert (
        metadata.imgsz == (64, 64) and metadata.dynamic is bool(given.get("dynamic")) and metadata.precision == "fp32"
    )
    if not given.get("dynamic"):
        with pytest.raises(ConfigError, match="dynamic=True"):
            backend(torch.zeros(1, 3, 96, 64))
    with pytest.raises(ConfigError, match="embed"):
        backend(torch.zeros(1, 3, 64, 64), embed=[1])


@ONNX
@pytest.mark.slow
def test_the_exporter_that_captures_the_program(folder: Path):
    pytest.importorskip("onnxscript")
    path = RTDETR(folder / "m.pt").export(format="onnx", opset=21, dynamic=True, **FAST)
    assert_same(path, folder / "m.pt", *SHAPES)


@ONNX
def test_not_square(folder: Path):
    path = RTDETR(folder / "m.pt").export(format="onnx", **{**FAST, "imgsz": [64, 96]})
    assert_same(path, folder / "m.pt", (2, 3, 64, 96))
    assert RTDETR(path).overrides["imgsz"] == [64, 96]


@ONNX
def test_one_graph_serves_every_batch(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """As the benchmark exports: the graph is written once, and each file is as fixed as one of its own."""
    import onnx

    written: list[bool] = []
    real = exporter.write_onnx

    def write(*args: Any, **kwargs: Any) -> None:
        written.append(kwargs["open_batch"])
        real(*args, **kwargs)

    monkeypatch.setattr(exporter, "write_onnx", write)
    model, shared = RTDETR(folder / "m.pt"), {}
    for batch in (1, 2):
        given = {**FAST, "format": "onnx", "batch": batch}
        path, found = model._export_graph(folder / f"b{batch}" / "m", given, shared)
        assert not found.reasons(exporter.TOLERANCES["fp32"])
        assert [d.dim_value for d in onnx.load(path).graph.input[0].type.tensor_type.shape.dim] == [batch, 3, 64, 64]
        metadata = AutoBackend(path).metadata
        assert metadata is not None and metadata.batch == batch and not metadata.dynamic
        assert_same(str(path), folder / "m.pt", (3, 3, 64, 64))
    assert written == [True]
    model._export_graph(folder / "d" / "m", {**FAST, "format": "onnx", "dynamic": True}, shared)
    assert written == [True, False]  # other axes are open there


@pytest.mark.parametrize(
    ("form", "given"),
    [
        pytest.param("torchscript", {"half": True}, id="torchscript"),
        pytest.param("onnx", {"quantize": 16}, marks=ONNX, id="onnx"),
        pytest.param("onnx", {"quantize": 8}, marks=ONNX, id="onnx-int8"),
    ],
)
def test_lower_precision(folder: Path, photos: Path, form: str, given: dict[str, Any]):
    given = {**given, "data": str(photos)} if given.get("quantize") == 8 else given
    path = RTDETR(folder / "m.pt").export(format=form, **FAST, **given)
    metadata = AutoBackend(path).metadata
    assert Path(path).stem == ("m_int8" if given.get("quantize") == 8 else "m_fp16")
    assert metadata is not None and metadata.precision == ("int8" if given.get("quantize") == 8 else "fp16")
    got, want = rows(path, (1, 3, 64, 64)), rows(folder / "m.pt", (1, 3, 64, 64))
    assert got.dtype == torch.float32 and 0 < (got - want)[..., 4].abs().max() < 0.1


@ONNX
def test_fragile_parts_stay_in_fp32(folder: Path):
    import onnx

    path = RTDETR(folder / "m.pt").export(format="onnx", half=True, **FAST)
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    half = onnx.TensorProto.FLOAT16
    for node in graph.node:
        if (
            node.op_type in {"Softmax", "GridSample", "TopK", "LayerNormalization", "Sigmoid"}
            and "model.7" in node.name
        ):
            assert kinds.get(node.output[0]) != half, node.name
    assert half in {kinds.get(n.output[0]) for n in graph.node if n.op_type == "Conv"}


@ONNX
def test_validation_and_prediction_by_a_file(
    folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = {"imgsz": 64, "device": "cpu", "workers": 0, "plots": False, "batch": 3, "amp": False}
    model = RTDETR(folder / "m.pt")
    file = RTDETR(model.export(format="onnx", **FAST, data=str(photos)))
    want, got = (m.val(data=str(photos), **options).results_dict for m in (model, file))
    assert got == pytest.approx(want, abs=1e-6)
    image = np.random.default_rng(1).integers(0, 255, (50, 70, 3), np.uint8)
    a, b = (
        m.predict([image] * 3, conf=0.001, device="cpu", batch=3, amp=False, **size)
        for m, size in ((model, {"imgsz": 64}), (file, {}))
    )
    assert file.names == NAMES and file.device.type == "cpu" and len(a) == len(b) == 3
    assert a[0].boxes is not None and b[0].boxes is not None
    torch.testing.assert_close(torch.as_tensor(a[0].boxes.data), torch.as_tensor(b[0].boxes.data), rtol=0, atol=1e-2)
    only = file.predict(image, conf=0.001, classes=[1], device="cpu")[0].boxes
    assert only is not None and set(np.asarray(only.cls).tolist()) <= {1.0}
    for classes in ([7], [3, 4], -1, []):  # three classes
        for call in (lambda **k: file.predict(image, **k), lambda **k: file.val(data=str(photos), workers=0, **k)):
            with pytest.raises(ConfigError, match=r"classes=.*0 to 2"):
                call(classes=classes, device="cpu")
    file.predict(image, imgsz=96, device="cpu")
    assert file.predictor.imgsz == [64, 64] and "takes [64, 64] only, which is used" in capsys.readouterr().out


def test_what_a_file_cannot_do(folder: Path):
    file = RTDETR(RTDETR(folder / "m.pt").export(**FAST))
    calls = (file.train, file.fuse, file.info, file.export, file.save, file.reset_weights, file.half, file.embed,
             file.benchmark, lambda: file.load(folder / "m.pt"))  # fmt: skip
    for call in calls:
        with pytest.raises(ConfigTypeError, match="exported file") as caught:
            call()
        assert len(str(caught.value).splitlines()) <= 3
    with pytest.raises(ConfigError, match="task detect, not classify"):
        SHViTClassifier(str(folder / "m.torchscript"))


# --------------------------------------------------------------------------------------------------------- the gate
def corrupt_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the export write a network with one changed number."""
    real = exporter.export_form

    def corrupted_form(*args: Any) -> Any:
        form = real(*args)
        with torch.no_grad():
            form.model[0].conv.weight[0, 0, 0, 0] += 0.5
        return form

    monkeypatch.setattr(exporter, "export_form", corrupted_form)


def test_a_file_that_differs_is_not_written(folder: Path, monkeypatch: pytest.MonkeyPatch):
    corrupt_exports(monkeypatch)
    old = folder / "m.torchscript"
    old.write_text("what was there")
    with pytest.raises(CheckpointError, match="differs from the model") as caught:
        RTDETR(folder / "m.pt").export(**FAST)
    assert len(str(caught.value).splitlines()) <= 3
    assert old.read_text() == "what was there" and len(list(folder.iterdir())) == 2


def test_unless_that_is_allowed(folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    corrupt_exports(monkeypatch)
    logging.getLogger("ultralytics").addHandler(caplog.handler)
    path = RTDETR(folder / "m.pt").export(**FAST, allow_mismatch=True)
    assert Path(path).is_file() and "allowed:" in caplog.text


def test_the_model_stays_as_it_is(folder: Path):
    model = RTDETR(folder / "m.pt")
    before = {k: v.clone() for k, v in model.model.state_dict().items()}
    model.export(**FAST, half=True)
    after = model.model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(v, after[k]) for k, v in before.items())
    assert not model.model.is_fused() and not model.model.model[-1].export


def test_weights_formats(folder: Path):
    pytest.importorskip("safetensors")
    path = RTDETR(folder / "m.pt").export(format="safetensors")
    assert path.endswith("m.safetensors") and RTDETR(path).names == NAMES


@pytest.mark.parametrize("form", ["state_dict", "safetensors"])
@pytest.mark.parametrize(
    ("given", "error", "word"),
    [
        ({"half": True}, ConfigError, "quantize=16: no effect, format={form}"),
        ({"device": "0", "imgsz": 64}, ConfigError, "imgsz=64, device=0: no effect|device=0, imgsz=64: no effect"),
        ({"batch": 4}, ConfigError, "batch=4: no effect"),
        ({"dynamic": "maybe"}, ConfigTypeError, "dynamic"),
        ({"dynamik": True}, UnknownArgumentError, "did you mean dynamic"),
    ],
)
def test_weights_formats_refuse_what_would_change_nothing(folder: Path, form, given, error, word):
    with pytest.raises(error, match=word.format(form=form)):
        RTDETR(folder / "m.pt").export(format=form, **given)
    assert [p.name for p in folder.iterdir()] == ["m.pt"]


def test_weights_formats_take_the_usual_values_and_any_letters(folder: Path):
    path = RTDETR(folder / "m.pt").export(format="State_Dict", half=False, device=None, verbose=True, dynamic=False)
    assert {Path(path).name, "m.pt", "m_stock.yaml"} == {p.name for p in folder.iterdir()}


# ----------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"format": "onxx"}, "did you mean onnx"),
        ({"format": ""}, "no such format"),
        ({"format": "torchscript", "quantize": 8, "data": "demo.yaml"}, "no int8"),
        ({"format": "torchscript", "opset": 17}, "no operator sets"),
        ({"format": "torchscript", "batch": -1}, "batch=-1"),
        pytest.param({"format": "onnx", "quantize": 8}, "needs data=", marks=ONNX),
        pytest.param({"format": "onnx", "opset": 999}, "opset=999", marks=ONNX),
        ({"format": "torchscript", "data": "no-such.yaml"}, "no-such"),
        ({"format": "torchscript", "device": "cuda:77"}, "77"),
    ],
)
def test_errors(folder: Path, given: dict[str, Any], word: str):
    with pytest.raises(UserError, match=word) as caught:
        RTDETR(folder / "m.pt").export(**{**FAST, **given})
    assert len(str(caught.value).splitlines()) <= 3
    assert [p.name for p in folder.iterdir()] == ["m.pt"]


@pytest.mark.parametrize(("form", "package"), [("engine", "tensorrt"), ("coreml", "coremltools")])
def test_a_missing_package_is_named(folder: Path, form: str, package: str):
    if find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(MissingPackageError, match=package):
        RTDETR(folder / "m.pt").export(format=form, **FAST)


def test_names_of_formats():
    assert [format_name(n) for n in ("ONNX", "trt", "mlpackage")] == ["onnx", "engine", "coreml"]
    assert {dataclasses.astuple(f)[0] for f in EXPORT_FORMATS.values()} == {
        ".torchscript", ".onnx", "_openvino_model", ".engine", ".mlpackage"
    }  # fmt: skip


def test_classifier(tmp_path: Path):
    torch.manual_seed(0)
    path = SHViTClassifier(TINY_CLASSIFIER).save(tmp_path / "c.pt")
    file = SHViTClassifier(path).export(format="torchscript", imgsz=64)
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(AutoBackend(file)(images), AutoBackend(path)(images), rtol=0, atol=1e-4)
    result = SHViTClassifier(file).predict(np.zeros((50, 70, 3), np.uint8), device="cpu")[0]
    assert result.probs is not None and len(result.probs.data) == 3
