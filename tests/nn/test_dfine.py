"""Networks of RT-DETRv2, D-FINE, DEIM and DEIMv2: every YAML has the official keys and counts, and trains."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.golden.adapters import detr_adapter as adapter
from tests.golden.adapters import detr_models as models
from tests.golden.detr_runner import kept
from tests.golden.fill import fill_
from ultralytics.nn.tasks import (
    DFINEDetectionModel,
    RTDETRDetectionModel,
    load_checkpoint,
    pack_model,
    save_checkpoint,
)
from ultralytics.utils import ROOT
from ultralytics.utils.errors import ModelYAMLError

OFFICIAL = json.loads((Path(__file__).parents[1] / "golden" / "detr" / "official.json").read_text(encoding="utf-8"))
BUILT = [  # one of each kind of backbone, encoder and head; building all takes minutes
    "dfine-n",
    "dfine-m",
    "dfine-x",
    "deim-s",
    "deim-l",
    "deim-rtdetrv2-r34",
    "deim-rtdetrv2-r50-m",
    "deimv2-atto",
    "deimv2-pico",
    "deimv2-n",
    "deimv2-s",
    "deimv2-hgnetv2-m",
    "rtdetrv2-r18",
    "rtdetrv2-r101",
    "rtdetrv2-hgnetv2-h",
]
SMALL = ["dfine-n", "deimv2-atto", "rtdetrv2-r18"]
OURS = {"dfine-shsa-s": 10_601_685, "dfine-s-aifi-shsa": 10_129_973, "dfine-shvit-s1": 14_902_281}
"""Networks that nobody published, and their number of weights with 80 classes."""
NOT_WEIGHTS = ("running_mean", "running_var", "num_batches_tracked")


def small(stem: str) -> DFINEDetectionModel:
    torch.manual_seed(0)
    model = DFINEDetectionModel(f"{stem}.yaml", nc=3, verbose=False)
    model.model[-1].num_queries, model.model[-1].num_denoising = 12, 4
    return model


def batch(*counts: int) -> dict[str, Any]:
    torch.manual_seed(1)
    n = sum(counts)
    index = torch.repeat_interleave(torch.tensor(counts)).float()
    boxes = torch.rand(n, 4) * 0.3 + 0.3
    return {"img": torch.rand(len(counts), 3, 64, 96), "cls": torch.arange(n) % 3, "bboxes": boxes, "batch_idx": index}


def test_every_yaml_is_checked() -> None:
    folders = ("d-fine", "deim", "deimv2", "rt-detr")
    shipped = {p.stem for folder in folders for p in (ROOT / "cfg" / "models" / folder).glob("*.yaml")}
    assert {*models.stock(), *OURS} == {stem for stem in shipped if not stem.startswith("rtdetr-")}
    assert set(OFFICIAL) == set(models.stock())


@pytest.mark.parametrize("stem", BUILT)
def test_official_keys_and_counts(stem: str) -> None:
    """Names and shapes of the published state dict, by their hash, and its number of weights."""
    want = OFFICIAL[stem]
    config = {"family": want["family"], "size": want["size"]}
    state = adapter.official_state(adapter.build("Official", config), "Official", config)
    shapes = {k: list(v.shape) for k, v in state.items() if not k.endswith("num_batches_tracked")}
    text = "\n".join(sorted(f"{k} {s}" for k, s in shapes.items() if not kept(k)))
    assert hashlib.sha256(text.encode()).hexdigest() == want["keys"]
    counted = [k for k in shapes if not k.endswith(NOT_WEIGHTS) and (not kept(k) or k.endswith((".up", "reg_scale")))]
    assert sum(state[k].numel() for k in counted) == want["weights"]


@pytest.mark.parametrize("stem", OURS)
def test_networks_with_shsa(stem: str) -> None:
    """Counts; a training step in which every parameter has a gradient; fused, the same scores and no batch norm."""
    with torch.device("meta"):
        whole = DFINEDetectionModel(f"{stem}.yaml", verbose=False)
    assert sum(p.numel() for p in whole.parameters()) == OURS[stem]
    model = small(stem).train()
    total, _ = model(batch(2, 1))
    total.backward()
    lacking = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert bool(total.isfinite()) and not lacking
    fill_(model, conv_gain=1.2)
    image = batch(1)["img"]
    with torch.no_grad():
        want = model.eval()(image)[0]
        got = model.fuse(verbose=False)(image)[0]
    assert model.is_fused()
    torch.testing.assert_close(got[..., 4], want[..., 4], rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_published_weights_give_the_same_boxes_behind_a_new_shsa_row() -> None:
    stock = fill_(small("dfine-s"), conv_gain=1.2).eval()
    model = small("dfine-shsa-s").eval()
    report = model.load(stock, verbose=False)
    assert {key.split(".")[1] for key in report.fresh} == {"7"}
    image = batch(1)["img"]
    torch.testing.assert_close(model(image)[0], stock(image)[0])


@torch.no_grad()
def test_a_tiny_network_is_no_larger_than_that_of_rtdetr() -> None:
    folder = ROOT.parent / "benchmarks"
    with torch.device("meta"):
        ours = DFINEDetectionModel(folder / "dfine-tiny.yaml", nc=3, verbose=False)
        other = RTDETRDetectionModel(folder / "rtdetr-tiny-l.yaml", nc=3, verbose=False)
    sizes = [sum(p.numel() for p in network.parameters()) for network in (ours, other)]
    assert sizes == [2_871_427, 2_899_276]


@pytest.mark.parametrize("stem", SMALL)
@pytest.mark.parametrize("counts", [(2, 1), (0, 0)])
def test_training_step(stem: str, counts: tuple[int, ...]) -> None:
    model = small(stem).train()
    total, items = model(batch(*counts))
    total.backward()
    assert bool(total.isfinite()) and items.shape == (3,) and len(model.family.loss_names) == 3
    lacking = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not lacking


@pytest.mark.parametrize("stem", SMALL)
def test_evaluation_and_its_loss(stem: str) -> None:
    model = small(stem).eval()
    with torch.no_grad():
        preds = model(batch(2, 1)["img"])
        total, _ = model.loss(batch(2, 1), preds)
    assert preds[0].shape == (2, 12, 6) and bool(total.isfinite())


@pytest.mark.parametrize("stem", ["dfine-n", "rtdetrv2-r18"])
def test_a_checkpoint_comes_back(stem: str, tmp_path: Path) -> None:
    model = small(stem).eval()
    model.criterion = model.init_criterion()  # must not travel
    save_checkpoint(tmp_path / "a.pt", {"model": pack_model(model)})
    again, _ = load_checkpoint(tmp_path / "a.pt")
    assert type(again) is DFINEDetectionModel and again.family.name == model.family.name
    want, got = model.state_dict(), again.state_dict()
    assert all(torch.equal(want[k].float(), got[k].float()) for k in got)


@pytest.mark.parametrize(
    ("stem", "name", "union", "local"),
    [("dfine-n", "VarifocalLoss", True, True), ("deimv2-atto", "MatchabilityAwareLoss", False, False)],
)
def test_the_yaml_chooses_the_criterion(stem: str, name: str, union: bool, local: bool) -> None:
    criterion = small(stem).init_criterion()
    assert type(criterion.classification).__name__ == name
    assert criterion.union is union and (criterion.local is not None) is local


def test_an_argument_goes_before_the_yaml_and_others_have_no_effect(caplog: pytest.LogCaptureFixture) -> None:
    model = small("dfine-n")
    model.args = {"loss": "mal", "aux_groups": 2}
    with caplog.at_level("WARNING"):
        criterion = model.init_criterion()
    assert type(criterion.classification).__name__ == "MatchabilityAwareLoss"
    assert "aux_groups=2 has no effect" in caplog.text


def test_an_unknown_criterion_key_is_refused() -> None:
    model = small("dfine-n")
    model.yaml["criterion"] = {"los": "mal"}
    with pytest.raises(ModelYAMLError, match="los"):
        model.init_criterion()


def test_norms_are_those_of_published_weights() -> None:
    norms = [m for m in small("dfine-n").modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and all(m.eps == 1e-5 and m.momentum == 0.1 for m in norms)
