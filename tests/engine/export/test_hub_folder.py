"""Folders for `transformers`: its names and shapes, equal outputs when read back, refusals of networks that it lacks.

`golden/foreign_keys.json` has keys and shapes that transformers stores of its own random models.
"""

from __future__ import annotations

import hashlib
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.golden.fill import fill_
from ultralytics import RTDETR
from ultralytics.engine.export import hub_folder
from ultralytics.engine.export.hub_folder import Outputs, largest_differences, network_outputs, noise_images
from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.nn.export.transformers_folder import hub_tensors, transformers_form, write_transformers
from ultralytics.nn.tasks import DetectionModel, DFINEDetectionModel, RTDETRDetectionModel, load_checkpoint
from ultralytics.utils.errors import CheckpointError, ConfigError

GOLDEN = Path(__file__).parents[2] / "golden" / "foreign_keys.json"
DFINE_S = (764, "5083bb6b77f11762553cfb3d069f8e4028a1b1c7c74d51cf568766f9a1325e15")
"""Of the names and shapes that transformers 5.24 stores of its D-FINE-S: how many, and their SHA-256."""
SMALL = {"train_args": {"imgsz": 64, "data": "/somewhere/trees.yaml"}, "train_metrics": {"mAP50-95": 0.25}}


@pytest.fixture(scope="module")
def fine() -> RTDETR:
    """D-FINE-N with the numbers of no start, and two named classes."""
    model = RTDETR({**load_model_yaml("dfine-n.yaml").data, "nc": 2})
    constants = {k: v.clone() for k, v in model.model.state_dict().items() if k.endswith((".up", ".reg_scale"))}
    fill_(model.model, conv_gain=1.4)
    model.model.load_state_dict(constants, strict=False)
    model.model.names = {0: "tree", 1: "house"}
    model.model.eval()
    return model


@pytest.fixture(scope="module")
def folder(fine: RTDETR, tmp_path_factory: pytest.TempPathFactory) -> Path:
    fine.ckpt = dict(SMALL)
    return hub_folder.export_transformers(fine.model, tmp_path_factory.mktemp("hub") / "best", SMALL)


@pytest.fixture(autouse=True)
def without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_folder, "find_spec", lambda name: None)


@pytest.mark.parametrize(
    ("yaml", "golden"),
    [
        ("rtdetr-r18", "hf_r18"),
        ("rtdetr-resnet18", "hf_r18"),
        ("rtdetr-r50", "hf_r50"),
        ("rtdetr-resnet50vd", "hf_r50"),
        ("rtdetrv2-r18", "hf_v2_r18"),
    ],
)
def test_names_and_shapes_are_those_of_transformers(yaml: str, golden: str) -> None:
    cls = DFINEDetectionModel if "v2" in yaml else RTDETRDetectionModel
    with torch.device("meta"):
        found = hub_tensors(cls(f"{yaml}.yaml", nc=7, verbose=False))
    assert {k: list(v.shape) for k, v in found.items()} == json.loads(GOLDEN.read_text())[golden]


def test_names_and_shapes_of_dfine() -> None:
    with torch.device("meta"):
        found = hub_tensors(DFINEDetectionModel("dfine-s.yaml", verbose=False))
    lines = "\n".join(f"{k} {list(v.shape)}" for k, v in sorted(found.items()))
    assert (len(found), hashlib.sha256(lines.encode()).hexdigest()) == DFINE_S


def test_the_folder_and_the_way_back(fine: RTDETR, folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "preprocessor_config.json",
    ]  # fmt: skip
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]
    back = RTDETR(folder)
    image = torch.rand(1, 3, 64, 64)
    assert all(map(torch.equal, network_outputs(fine.model, image), network_outputs(back.model, image)))
    assert back.names == {0: "tree", 1: "house"} and back.model.nc == 2
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["DFineForObjectDetection"] and config["id2label"] == {"0": "tree", "1": "house"}
    assert config["num_queries"] == 300 and config["decoder_n_points"] == [6, 6] and config["decoder_layers"] == 3
    card = (folder / "README.md").read_text()
    assert "| mAP50-95 | 0.25 |" in card and "| data | trees.yaml |" in card and "tree, house" in card
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    assert processor["size"] == {"height": 64, "width": 64} and processor["do_normalize"] is False


def test_rt_detr_with_another_epsilon(tmp_path: Path) -> None:
    """Its batch norms have 1e-3 here and 1e-5 there; the row form of forks is read back in ours."""
    model = RTDETRDetectionModel("rtdetr-r18.yaml", nc=3, verbose=False)
    fill_(model, conv_gain=1.4).eval()
    made = hub_folder.export_transformers(model, tmp_path / "r18", SMALL)
    again, _ = load_checkpoint(made / "model.safetensors")
    assert isinstance(again, DetectionModel) and again.model[0].conv1.bn.eps == 1e-5
    image = next(iter(noise_images(64)))
    logits, boxes = largest_differences(network_outputs(model, image), network_outputs(again, image))
    assert logits < 1e-3 and boxes < 1e-4


def _edited(change: Callable[[list[list[Any]]], object]) -> DFINEDetectionModel:
    data = load_model_yaml("dfine-n.yaml").data
    rows = [list(row) for row in data["head"]]
    change(rows)
    return DFINEDetectionModel({**data, "head": rows}, verbose=False)


def _set(rows: list[list[Any]], name: str, place: int, value: object) -> None:
    next(row for row in rows if row[2] == name)[place] = value


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: _edited(lambda rows: _set(rows, "nn.Upsample", 3, [None, 2, "bilinear"])), CheckpointError, "differs"),
        (lambda: DFINEDetectionModel("dfine-n.yaml", verbose=False).fuse(), ConfigError, "fused"),
        (lambda: DFINEDetectionModel("deimv2-atto.yaml", verbose=False), ConfigError, "DEIMDecoder"),
        (lambda: RTDETR("yolo11n.yaml").model, ConfigError, "no class for the head"),
        (lambda: RTDETRDetectionModel("rtdetr-resnet50vd-m.yaml", verbose=False), ConfigError, "last layer"),
        (lambda: RTDETRDetectionModel("rtdetr-shvit-s1.yaml", verbose=False), ConfigError, "no SHViT"),
        (lambda: nn.Linear(1, 1), ConfigError, "detectors"),
    ],
)
def test_networks_that_transformers_does_not_have(
    make: Callable[[], nn.Module], error: type[Exception], said: str, tmp_path: Path
) -> None:
    (tmp_path / "m_hf").mkdir()
    with pytest.raises(error, match=said):
        hub_folder.export_transformers(make().eval(), tmp_path / "m", SMALL)
    assert [p.name for p in tmp_path.rglob("*")] == ["m_hf"]


class _Library(types.ModuleType):
    """Stands for transformers: opens a folder with our reader, and adds an error to its outputs."""

    def __init__(self, error: float) -> None:
        super().__init__("transformers")
        self.error = error
        self.DFineForObjectDetection = self

    def from_pretrained(self, folder: str, local_files_only: bool) -> _Library:
        assert local_files_only
        self.network: Any = load_checkpoint(Path(folder) / "model.safetensors")[0]
        return self

    def eval(self) -> _Library:
        return self

    def __call__(self, image: Tensor) -> types.SimpleNamespace:
        head: Any = self.network.model[-1]
        scores = []

        def last_first(confidence: Tensor, queries: int) -> Tensor:
            """Choose the best tokens in another order: the scores that are returned are in that order too."""
            order = confidence.topk(queries, 1).indices.flip(1)
            scores.append(torch.full_like(confidence, -9.0).scatter_(1, order, torch.arange(queries, 0.0, -1)[None]))
            return self.chosen(order, confidence)

        with head.selecting_by(last_first):
            out = network_outputs(self.network, image)
        error = torch.tensor(self.error)
        return types.SimpleNamespace(
            logits=out.logits[None] + error, pred_boxes=out.boxes[None], enc_outputs_class=scores[0][..., None]
        )

    def chosen(self, order: Tensor, confidence: Tensor) -> Tensor:
        """The tokens of this side."""
        return order


@pytest.mark.parametrize(("error", "agrees"), [(0.0, True), (5e-5, True), (2e-4, False)])
def test_outputs_of_transformers_are_compared(
    error: float, agrees: bool, fine: RTDETR, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_folder, "find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "transformers", _Library(error))
    if agrees:
        assert hub_folder.export_transformers(fine.model, tmp_path / "m", SMALL).is_dir()
    else:
        with pytest.raises(CheckpointError, match="other outputs"):
            hub_folder.export_transformers(fine.model, tmp_path / "m", SMALL)
        assert list(tmp_path.iterdir()) == []


def test_tokens_that_are_not_the_best_are_no_excuse(fine: RTDETR) -> None:
    plain = transformers_form(fine.model)
    image = next(iter(noise_images(320)))  # 500 tokens, 300 queries
    with torch.no_grad():
        found = hub_folder._with_tokens(plain, image, torch.arange(300)[None])
    assert found.boxes.isnan().all()


def test_differences() -> None:
    logits, boxes = torch.randn(20, 3), torch.rand(20, 4)
    found = largest_differences(Outputs(logits, boxes), Outputs(logits + 0.5e-3, boxes))
    torch.testing.assert_close(torch.stack(list(found)), torch.tensor([0.5e-3, 0.0]), atol=1e-6, rtol=0)
    assert largest_differences(Outputs(logits, boxes), Outputs(logits[1:], boxes[1:])).logits == torch.inf


def test_the_form_changes_nothing_of_the_model() -> None:
    model = RTDETRDetectionModel("rtdetr-r18.yaml", nc=3, verbose=False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    plain = transformers_form(model)
    assert plain is not model and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_the_format_takes_no_arguments(fine: RTDETR, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no effect"):
        fine.export(format="hf", half=True)
    fine.ckpt = dict(SMALL)
    assert Path(fine.export(format="hf")).is_dir()


@pytest.mark.slow  # larger networks at 640 px, and the import of transformers
@pytest.mark.parametrize("yaml", ["rtdetr-r18", "rtdetr-resnet50vd", "rtdetrv2-r18", "dfine-s"])
def test_transformers_itself(yaml: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model = RTDETR(f"{yaml}.yaml")
    constants = {k: v.clone() for k, v in model.model.state_dict().items() if k.endswith((".up", ".reg_scale"))}
    fill_(model.model, conv_gain=1.4)
    model.model.load_state_dict(constants, strict=False)
    plain = transformers_form(model.model.eval())
    write_transformers(plain, tmp_path, 640, "")
    worst = hub_folder.compare_outputs(plain, tmp_path, noise_images(640))
    assert max(map(float, worst)) <= hub_folder.BOUND
