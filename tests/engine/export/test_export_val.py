"""Validation on exported files: any batch, an odd last one, one error for what a file cannot take."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.engine.tiny import IMAGES, overfitted, write_dataset
from ultralytics.cli import main as cli
from ultralytics.engine.validator import side_taken
from ultralytics.models import RTDETR
from ultralytics.nn.backends.metadata import ExportMetadata
from ultralytics.utils.errors import ConfigError

NEEDS = {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino"), "torchscript": ()}
FILES: dict[str, dict[str, Any]] = {
    "torchscript": {"format": "torchscript"},
    "onnx": {"format": "onnx", "dynamic": True},
    "openvino": {"format": "openvino", "batch": 2},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that finds most objects of four images, in an order that rounding leaves alone; three fill a batch."""
    folder = tmp_path_factory.mktemp("files")
    write_dataset(folder / "data")
    trained = overfitted((200,))[0]
    model = RTDETR({**trained.yaml})
    model.model = trained
    model.save(folder / "m.pt")
    return folder


def options(root: Path, **more: Any) -> dict[str, Any]:
    """Arguments of a validation in float32, which is what a file computes in."""
    return {"data": str(root / "data/data.yaml"), "batch": 3, "workers": 0, "device": "cpu", "plots": False,
            "amp": False, "project": str(root / "runs"), "exist_ok": True, **more}  # fmt: skip


@pytest.mark.parametrize("name", ["torchscript", "onnx", pytest.param("openvino", marks=pytest.mark.slow)])  # compiles
def test_a_file_has_the_numbers_of_its_model(root: Path, name: str, capsys: pytest.CaptureFixture[str]):
    if not all(map(find_spec, NEEDS[name])):
        pytest.skip(f"needs {NEEDS[name]}")
    model = RTDETR(root / "m.pt")
    assert len(IMAGES) % 3 == 1
    want = model.val(**options(root, imgsz=64)).coco_stats
    path = model.export(imgsz=64, simplify=False, **FILES[name])
    assert RTDETR(path).val(**options(root)).coco_stats == pytest.approx(want, abs=1e-6) and want["AP"] > 0.05
    arguments = [f"{k}={v}" for k, v in options(root, name=name, save_json=True).items()]
    cli.entrypoint(["val", f"model={path}", *arguments])
    assert (root / "runs" / name / "predictions.json").is_file()
    if not FILES[name].get("dynamic"):
        cli.entrypoint(["val", f"model={path}", "imgsz=96", *arguments])
        assert "imgsz=96: the exported file takes 64 only, which is used" in capsys.readouterr().out
    else:
        other = RTDETR(path).val(**options(root, imgsz=96)).coco_stats
        assert other == pytest.approx(model.val(**options(root, imgsz=96)).coco_stats, abs=1e-6)


def test_another_number_of_classes_is_a_warning(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = RTDETR(root / "m.pt").export(format="torchscript", imgsz=64)
    yaml = write_dataset(tmp_path / "five")
    yaml.write_text(yaml.read_text() + "  3: grey\n  4: pink\n")
    metrics = RTDETR(path).val(**{**options(root), "data": str(yaml)})
    assert "the model has 3 classes, the data set 5" in capsys.readouterr().out
    assert len(metrics.names) == 5 and metrics.nt_per_class.sum() == 6


@pytest.mark.parametrize(
    ("imgsz", "dynamic", "taken"),
    [
        ((64, 64), False, 64),
        ((96, 64), True, 64),
        ((32, 32), False, 32),
        ((64, 96), False, None),  # no size could be given that validation would take
    ],
)
def test_what_validation_can_take(imgsz: tuple[int, int], dynamic: bool, taken: int | None):
    metadata = ExportMetadata("onnx", "detect", {0: "a"}, 32, imgsz, dynamic=dynamic)
    assert side_taken(None, 64) == 64
    if taken is not None:
        assert side_taken(metadata, 64) == taken
    else:
        with pytest.raises(ConfigError, match="export a square one"):
            side_taken(metadata, 64)
