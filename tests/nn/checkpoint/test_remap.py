"""Other projects' weights: complete tables both ways on recorded key lists, and their own outputs.

`golden/foreign_keys.json` has keys and shapes of random models of transformers 5.23.0 (as saved) and timm 1.0.31;
`foreign.npz` the first 40 queries that the former gave for weights filled by `golden/fill.py` from the saved keys.
Likewise `lyu_*`, recorded from libreyolo 1.6.0, which names its tensors as lyuwenyu/RT-DETR does.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from tests.golden.fill import tensor, values
from ultralytics.nn.checkpoint.remap import map_state, recognise_format, remap_weights
from ultralytics.nn.classify import official_prefixes
from ultralytics.nn.tasks import ClassificationModel, RTDETRDetectionModel, load_checkpoint

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
KEYS = json.loads((GOLDEN / "foreign_keys.json").read_text())
BACKBONES = {"timm_hgnetv2_b4": ("rtdetr-hgnetv2-l.yaml", 9), "timm_hgnetv2_b5": ("rtdetr-x.yaml", 13)}


def meta(shapes):
    return {k: torch.empty(v, device="meta") for k, v in shapes.items()}


@cache
def shapes_of(yaml, nc):
    with torch.device("meta"):
        return {k: tuple(v.shape) for k, v in RTDETRDetectionModel(yaml, nc=nc, verbose=False).state_dict().items()}


def own_shapes(yaml, nc, last=10**9):
    return {k: v for k, v in shapes_of(yaml, nc).items() if int(k.split(".")[1]) <= last}


def in_memory(key):
    """The names that transformers 5 has in memory."""
    key = key.replace("encoder.encoder.0", "encoder.aifi.0").replace("self_attn.out_proj", "self_attn.o_proj")
    return key.replace(".fc1.", ".mlp.fc1.").replace(".fc2.", ".mlp.fc2.")


@pytest.mark.parametrize("state", [{}, {"a.weight": 1}, {"model.0.conv.weight": 1, "model.0.bn.bias": 2}])
def test_unknown_weights_stay_as_they_are(state):
    assert recognise_format(state) is None and map_state(state) is None
    assert remap_weights({"state_dict": state}) == {"state_dict": state}


@pytest.mark.parametrize("names", ["saved", "memory", "parallel"])
@pytest.mark.parametrize(
    ("family", "yaml"),
    [("hf_r18", "rtdetr-resnet18.yaml"), ("hf_v2_r18", "rtdetr-resnet18.yaml"), ("hf_r50", "rtdetr-resnet50vd.yaml")],
)
def test_hugging_face_keys_are_complete_both_ways(family, yaml, names):
    rename = {"saved": str, "memory": in_memory, "parallel": lambda k: f"module.{k}"}[names]
    mapped = map_state(meta({rename(k): v for k, v in KEYS[family].items()}))
    assert mapped.yaml == yaml and mapped.classes == 7 and mapped.unknown == []
    assert all("n_points_scale" in k for k in mapped.dropped)
    assert {k: tuple(v.shape) for k, v in mapped.state.items()} == own_shapes(yaml, 7)


LYU = {
    "lyu_r18": "rtdetr-resnet18.yaml",
    "lyu_r34": "rtdetr-resnet34.yaml",
    "lyu_r50": "rtdetr-resnet50vd.yaml",
    "lyu_r50m": "rtdetr-resnet50vd-m.yaml",
    "lyu_r101": "rtdetr-resnet101vd.yaml",
    "lyu_v2_r18": "rtdetr-resnet18.yaml",
    "lyu_v2_r50": "rtdetr-resnet50vd.yaml",
}


def as_named(key):
    """The projections of the encoder as version 2 of lyuwenyu/RT-DETR names them."""
    return re.sub(r"^(encoder\.input_proj\.\d)\.([01])\.", lambda m: f"{m[1]}.{('conv', 'norm')[int(m[2])]}.", key)


@pytest.mark.parametrize("rename", [str, as_named])
@pytest.mark.parametrize("family", LYU)
def test_lyuwenyu_keys_are_complete_both_ways(family, rename):
    mapped = map_state(meta({rename(k): v for k, v in KEYS[family].items()}))
    assert mapped.yaml == LYU[family] and mapped.classes == 7 and mapped.unknown == []
    assert {k.rsplit(".", 1)[1] for k in mapped.dropped} <= {"num_points_scale", "anchors", "valid_mask"}
    assert {k: tuple(v.shape) for k, v in mapped.state.items()} == own_shapes(LYU[family], 7)


def test_a_key_without_a_row_is_reported():
    state = meta({**KEYS["lyu_r18"], "decoder.something.weight": [3]})
    assert map_state(state).unknown == ["decoder.something.weight"]


@pytest.mark.parametrize("family", BACKBONES)
def test_hgnet_keys_are_complete_both_ways(family):
    yaml, last = BACKBONES[family]
    mapped = map_state(meta(KEYS[family]))
    assert mapped.unknown == [] and all(k.startswith("head.") for k in mapped.dropped) and mapped.yaml == yaml
    assert {k: tuple(v.shape) for k, v in mapped.state.items()} == own_shapes(yaml, 3, last)


@pytest.mark.parametrize(
    ("name", "yaml"), [("resnet50", "rtdetr-resnet50.yaml"), ("resnet101", "rtdetr-resnet101.yaml")]
)
def test_torchvision_keys_are_complete_both_ways(name, yaml):
    with torch.device("meta"):
        mapped = map_state(torchvision.models.get_model(name).state_dict())
    assert mapped.unknown == [] and mapped.dropped == ["fc.weight", "fc.bias"] and mapped.yaml == yaml
    assert {k: tuple(v.shape) for k, v in mapped.state.items()} == own_shapes(yaml, 3, 4)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_timm_shvit_is_the_official_one_renamed(size):
    mapped = map_state(meta(KEYS[f"timm_shvit_s{size}"]))
    with torch.device("meta"):
        model = ClassificationModel(f"shvit_s{size}.yaml", nc=1000, verbose=False)
    prefixes = tuple(official_prefixes(model.model))
    assert mapped.unknown == [] and mapped.dropped == []
    assert all(k.startswith(prefixes) for k in mapped.state)
    report = model.load(dict(mapped.state), verbose=False)
    assert (report.fresh, report.dropped, report.mismatched) == ([], [], [])


@pytest.mark.parametrize("family", ["hf_r18", "hf_v2_r18", "hf_r50", "lyu_r18", "lyu_v2_r18", "lyu_r50"])
def test_outputs(family, tmp_path):
    """The file is opened as a model of ours and gives the logits and boxes of the library that wrote it."""
    state = {k: torch.from_numpy(np.asarray(values(k, v, 1.2))).float() for k, v in KEYS[family].items()}
    state = {k: torch.tensor(0) if k.endswith("num_batches_tracked") else v for k, v in state.items()}
    hf = family.startswith("hf")
    torch.save(state if hf else {"ema": {"module": state, "updates": 9}, "last_epoch": 71}, tmp_path / "x.pth")
    model, ckpt = load_checkpoint(tmp_path / "x.pth")
    assert model.nc == 7 and ckpt["source"] == ("Hugging Face RT-DETR" if hf else "lyuwenyu/RT-DETR")
    with torch.no_grad():
        _, raw = model(tensor("hf/img", (1, 3, 128, 128), "image"))
    want = np.load(GOLDEN / "foreign.npz")
    np.testing.assert_allclose(raw[1][-1, 0, :40].numpy(), want[f"{family}/logits"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(raw[0][-1, 0, :40].numpy(), want[f"{family}/boxes"], rtol=0, atol=1e-4)
