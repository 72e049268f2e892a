"""Files of D-FINE and its relatives: recognised, taken over by any YAML, and given back under the same names.

That every name of every published model is right is held by the golden cases (`tests/test_golden_detr.py`, Official).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.dfine.networks import DFINE
from ultralytics import RTDETR
from ultralytics.nn.checkpoint.detr_files import stock_yaml
from ultralytics.nn.checkpoint.detr_names import key_roles, official_state, own_state, translate
from ultralytics.nn.checkpoint.transformers_names import from_transformers, to_transformers
from ultralytics.nn.export.stock_state_dict import export_state_dict
from ultralytics.nn.tasks import DFINEDetectionModel
from ultralytics.utils.errors import ConfigError

STOCK = [
    *(f"dfine-{size}" for size in "nsmlx"),
    *(f"deimv2-{size}" for size in ("n", "atto", "femto", "pico", "hgnetv2-s", "s", "m")),
    *("deim-rtdetrv2-r18", "deim-rtdetrv2-r50-m", "deim-rtdetrv2-r101", "rtdetrv2-hgnetv2-l"),
]


@pytest.fixture(scope="module")
def network() -> DFINEDetectionModel:
    torch.manual_seed(0)
    model = DFINEDetectionModel("dfine-n.yaml", nc=4, verbose=False)
    model.names = {0: "a", 1: "b", 2: "c", 3: "d"}
    return model.eval()


@pytest.fixture(scope="module")
def file(network: DFINEDetectionModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an export writes, beside what the projects store: a training file with an average."""
    return export_state_dict(network, tmp_path_factory.mktemp("files") / "dfine_n")[0]


@pytest.mark.parametrize("stem", STOCK)
def test_a_published_state_names_its_yaml(stem: str) -> None:
    with torch.device("meta"):
        state = DFINEDetectionModel(f"{stem}.yaml", verbose=False).state_dict()
    named = official_state(state, key_roles(f"{stem}.yaml"))
    assert stock_yaml(named) == f"{stem}.yaml"
    own, unknown = own_state({**named, "decoder.anchors": torch.zeros(1)}, key_roles(f"{stem}.yaml"))
    assert own.keys() == state.keys() and not unknown
    if stem.startswith("dfine"):
        assert stock_yaml(named, "deim_dfine_hgnetv2_coco") == f"{stem.replace('dfine', 'deim')}.yaml"


@pytest.mark.parametrize("stem", ["rtdetrv2-r18", "rtdetrv2-r50", "dfine-s", "rtdetrv2-hgnetv2-l"])
def test_names_of_transformers_come_back(stem: str) -> None:
    """Every tensor but the constants that are stored once; a ResNet is not taken for the HGNetv2 of its widths."""
    with torch.device("meta"):
        state = DFINEDetectionModel(f"{stem}.yaml", verbose=False).state_dict()
    named = official_state(state, key_roles(f"{stem}.yaml"))
    theirs = to_transformers({k: torch.zeros(v.shape) if "in_proj" in k else v for k, v in named.items()})
    assert all(key.startswith("model.") for key in theirs)
    marked = {**theirs, "model.decoder.layers.0.encoder_attn.n_points_scale": torch.ones(12)}
    back = from_transformers(marked)
    assert back is not None and back.keys() == named.keys()
    assert {k: v.shape for k, v in back.items()} == {k: v.shape for k, v in named.items()}
    if "-r" in stem:
        assert "model.backbone.model.encoder.stages.0.layers.0.layer.0.convolution.weight" in theirs
        assert stock_yaml(back) is None  # of RT-DETR's own table


def test_a_published_file_opens_as_a_model(network: DFINEDetectionModel, file: Path) -> None:
    model = RTDETR(file)
    assert type(model.model) is DFINEDetectionModel and model.model.nc == 4
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in model.model.state_dict().items())
    assert model.model.model[0].stem1.bn.eps == 1e-5
    again, _ = export_state_dict(model.model, file.with_name("again"))
    ours, theirs = (torch.load(path, weights_only=True)["model"] for path in (again, file))
    assert ours.keys() == theirs.keys() and all(torch.equal(v, theirs[k]) for k, v in ours.items())
    assert "decoder.decoder.up" in ours and "backbone.stages.2.blocks.1.aggregation.0.lab.scale" in ours


def test_a_distilled_file_is_deim_without_its_projection(file: Path, tmp_path: Path) -> None:
    """RT-DETRv4 is DEIM with one more layer in training, whatever its file is called."""
    state = torch.load(file, weights_only=True)["model"]
    projector = {"encoder.feature_projector.0.weight": torch.zeros(768, 128)}
    torch.save({"model": {**state, **projector}}, tmp_path / "rtv4.pth")
    model = RTDETR(tmp_path / "rtv4.pth")
    assert Path(str(model.model.yaml["yaml_file"])).stem.startswith("deim-n")
    assert set(model.model.state_dict()) == set(RTDETR(file).model.state_dict())


def test_an_edited_yaml_takes_all_rows_that_it_has(network: DFINEDetectionModel, file: Path) -> None:
    yaml: dict[str, Any] = {**network.yaml, "nc": 2}
    yaml["backbone"] = [*yaml["backbone"], [-1, 1, "SHSA", []]]
    head = [[9, *yaml["head"][1][1:]], *yaml["head"][2:]]
    edited = DFINEDetectionModel({**yaml, "head": _shifted(yaml["head"])}, verbose=False)
    assert head and 9 not in key_roles(edited.yaml)
    report = edited.load(file, verbose=False)
    assert {
        key.split(".")[1] for key in report.fresh if "score" not in key and key[9:] != "denoising_class_embed.weight"
    } == {"9"}
    want, got = network.state_dict(), edited.state_dict()
    torch.testing.assert_close(
        got["model.20.dec_bbox_head.0.layers.0.weight"], want["model.19.dec_bbox_head.0.layers.0.weight"]
    )
    with pytest.raises(ConfigError, match=r"no SHSA \(layer 9\)"):
        export_state_dict(edited, file.with_name("edited"))


def _shifted(rows: list[list[Any]]) -> list[list[Any]]:
    """Rows behind one that was put in at 9: later numbers grow by one, and the first reads the new row."""
    move = {i: i + 1 for i in range(9, 30)} | {8: 9}

    def moved(source: Any) -> Any:
        return [moved(s) for s in source] if isinstance(source, list) else move.get(source, source)

    return [[moved(row[0]), *row[1:]] for row in rows]


def test_class_rows_follow_the_names_and_the_last_embedding_row_comes_along(network: DFINEDetectionModel) -> None:
    other = DFINEDetectionModel("dfine-n.yaml", nc=3, verbose=False)
    other.names = {0: "d", 1: "e", 2: "a"}
    other.load(network, verbose=False)
    ours, theirs = other.model[-1].denoising_class_embed.weight, network.model[-1].denoising_class_embed.weight
    assert ours.shape[0] == 4 and theirs.shape[0] == 5
    for mine, of in ((0, 3), (2, 0), (3, 4)):
        torch.testing.assert_close(ours[mine], theirs[of])
    torch.testing.assert_close(other.model[-1].enc_score_head.weight[0], network.model[-1].enc_score_head.weight[3])


def test_a_user_s_network_keeps_the_names_of_its_parts() -> None:
    names = [role.prefix for role in key_roles(DFINE).values()]
    assert names[-1] == "decoder." and "encoder.encoder.0.layers.0." in names
    assert translate("a.1.b", [("x.*", "y.*")]) == "a.1.b"
