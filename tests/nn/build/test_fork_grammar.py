"""The grammar of forks' YAMLs: variables, keyword arguments, one-row backbones, and their R18, R34 and R50."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ultralytics.nn.build.builder import plan_model
from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.nn.registry import REGISTRY, Entry, register
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import ModelYAMLError

STEM = [-1, 1, "Conv", [8, 3, 2]]
HEAD = ["nc", 16, 10, 2, 2, 1, 32]


class Pyramid(nn.Module):
    """A one-row backbone: maps of strides 4 to 4 * 2^(levels - 1)."""

    def __init__(self, c1: int, levels: int = 4) -> None:
        super().__init__()
        strides = [4] + [2] * (levels - 1)
        self.steps = nn.ModuleList(nn.Conv2d(c1 if k == 0 else 8 * k, 8 * k + 8, s, s) for k, s in enumerate(strides))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for step in self.steps:
            x = step(x)
            maps.append(x)
        return maps


@pytest.fixture
def pyramid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the backbone for one test."""
    monkeypatch.setattr(REGISTRY, "_entries", dict(REGISTRY._entries))
    register(fills_slots=True)(Pyramid)


def of_rows(*rows: list[Any], **keys: Any) -> dict[str, Any]:
    return {"nc": 2, **keys, "backbone": [rows[0]], "head": list(rows[1:])}


# ------------------------------------------------------------------------------------------------------- variables
def test_variables_stand_for_modules_and_arguments() -> None:
    """A scalar key of the file's own is a module, an argument, one in a list or the value of a keyword argument."""
    rows = ([-1, 1, "node", ["width", 3, "step"]], [-1, 1, "Conv", [8, "k=size"]], [-1, 1, "nn.Upsample", ["None", 2]])
    spec = load_model_yaml(of_rows(*rows, node="Conv", width=24, step=2, size=5))
    assert [layer.module for layer in spec.layers] == ["Conv", "Conv", "nn.Upsample"]
    assert spec.layers[0].args == (24, 3, 2)
    assert spec.layers[1].kwargs == {"k": 5}
    assert spec.data["backbone"][0][2] == "node"  # a checkpoint keeps the file as it is
    assert [tuple(p.output.shape[1:]) for p in plan_model(spec)][:2] == [(24, 320, 320), (8, 320, 320)]


def test_only_variables_without_a_reader_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    load_model_yaml(of_rows(STEM, [-1, 1, "Conv", ["width"]], width=8, hieght=9))
    assert "hieght" in caplog.text
    assert "`width`" not in caplog.text


# ------------------------------------------------------------------------------------------------ keyword arguments
def test_keyword_arguments_reach_the_constructor() -> None:
    rows = (STEM, [-1, 1, "Conv", [16, "s=2", "act=False"]], [-1, 1, "nn.Upsample", ["scale_factor=2"]])
    spec = load_model_yaml(of_rows(*rows))
    plans = plan_model(spec)
    conv = plans[1].construct()
    assert conv.conv.stride == (2, 2)
    assert isinstance(conv.act, nn.Identity)
    assert tuple(plans[2].output.shape) == (1, 16, 320, 320)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([16, "sride=2"], r"sride.*\n.*signature: Conv\(c1, c2, k=1, s=1"),
        ([16, "s=2", 3], "behind `s=...`"),
        ([16, "s=2", "s=1"], "`s` is given twice"),
        ([16, 3, "k=3"], "multiple values for argument 'k'"),
    ],
)
def test_wrong_keyword_arguments(args: list[Any], message: str) -> None:
    with pytest.raises(ModelYAMLError, match=message):
        plan_model(load_model_yaml(of_rows(STEM, [-1, 1, "Conv", args])))


# ------------------------------------------------------------------------------------------------ one-row backbones
@pytest.mark.parametrize("levels", [3, 4, 5])
def test_maps_fill_the_last_slots(pyramid: None, levels: int) -> None:
    """The row is layer 4, the next one 5; keys count positions in the file."""
    head = [[2, 3, 6], 1, "RTDETRDecoder", HEAD] if levels > 2 else []
    rows = ([-1, 1, "Pyramid", [levels]], [-1, 1, "Conv", [16, 1, 1]], [-1, 1, "Conv", [16, 1, 1]], head)
    model = RTDETRDetectionModel(of_rows(*rows), verbose=False).eval()
    assert model.save == [2, 3, 6]
    assert [layer.i for layer in model.model] == [4, 5, 6, 7]
    assert {key.split(".")[1] for key in model.state_dict()} == {"0", "1", "2", "3"}
    image = torch.rand(1, 3, 64, 96) if levels < 5 else torch.rand(1, 3, 128, 64)
    with torch.no_grad():
        maps = model.model[0](image)
        last = model.model[2](model.model[1](maps[-1]))
        y = model(image)[0]
        want = model.model[3]([maps[-3], maps[-2], last])[0]
    assert torch.equal(y, want)
    assert model.layers(128)[1].i == 5


def test_an_empty_slot_is_refused(pyramid: None) -> None:
    rows = ([-1, 1, "Pyramid", [3]], [1, 1, "Conv", [16]])
    with pytest.raises(ModelYAMLError, match=r"layer 5 \(Conv\): from 1 names an empty slot: the backbone has 3 maps"):
        plan_model(load_model_yaml(of_rows(*rows)))


def test_another_row_than_the_first_takes_one_index(pyramid: None) -> None:
    """Behind other rows a list stays in one slot, of which `GetIndexOutput` and `Index` pick."""
    rows = (STEM, [-1, 1, "Pyramid", [3]], [-1, 1, "GetIndexOutput", [0]], [1, 1, "Index", [24, 2]])
    plans = plan_model(load_model_yaml(of_rows(*rows)))
    assert [p.output.shape[1] for p in plans[2:]] == [8, 24]


def test_unknown_modules_come_before_wrong_sources() -> None:
    """An unknown backbone shifts the numbers of all rows, so that it is the cause."""
    rows = ([-1, 1, "SomeNet_t0", []], [-1, 1, "AIFI", [128, 4]], [[2, 3, 5], 1, "RTDETRDecoder", HEAD])
    with pytest.raises(ModelYAMLError, match="unknown module 'SomeNet_t0'"):
        load_model_yaml(of_rows(*rows))


def test_all_unknown_modules_are_named_at_once() -> None:
    rows = (STEM, [-1, 1, "Cnov", []], [-1, 1, "Cnov", []], [-1, 1, "Agn", []])
    with pytest.raises(ModelYAMLError, match=r"layer 1 \(Cnov\): unknown module 'Cnov' \(and Agn\)"):
        plan_model(load_model_yaml(of_rows(*rows)))


# --------------------------------------------------------------------------------------------------- R18, R34, R50
@pytest.mark.parametrize(
    ("name", "parameters", "keys"),
    [("rtdetr-r18", 20_184_208, 533), ("rtdetr-r34", 31_441_412, 659), ("rtdetr-r50", 42_944_364, 791)],
)
def test_parameters_of_the_forks_models(name: str, parameters: int, keys: int) -> None:
    """As counted in a fork, less 256: its denoising embedding has a row more."""
    with torch.device("meta"):
        model = RTDETRDetectionModel(f"{name}.yaml", verbose=False)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(model.state_dict()) == keys
    assert model.save == [5, 6, 10, 11, 15, 16, 19, 22, 25]


OWN_NAMES = (
    (r"model\.([012])\.conv\.", lambda m: f"model.0.conv{int(m[1]) + 1}.conv."),
    (r"model\.([012])\.norm\.", lambda m: f"model.0.conv{int(m[1]) + 1}.bn."),
    (r"model\.([4-7])\.blocks\.", lambda m: f"model.{int(m[1]) - 3}.layer."),
    (r"model\.(\d\d|[89])\.", lambda m: f"model.{int(m[1]) - 3}."),
)


def in_own_names(key: str) -> str:
    """The key of `rtdetr-resnet18.yaml` for one of `rtdetr-r18.yaml`."""
    for pattern, name in OWN_NAMES:
        if re.match(pattern, key):
            key = re.sub(pattern, name, key, count=1)
            break
    if ".layer." in key:
        key = key.replace("short.conv.conv", "short.conv").replace("short.conv.norm", "short.norm")
        key = key.replace("short.", "shortcut.").replace("branch2a", "cv1").replace("branch2b", "cv2")
        key = key.replace(".norm.", ".bn.")
    return key


def test_r18_of_forks_computes_what_ours_does() -> None:
    """A state dict in the fork's keys loads whole; `rtdetr-resnet18.yaml` gives the same with the same weights."""
    torch.manual_seed(0)
    fork = RTDETRDetectionModel("rtdetr-r18.yaml", nc=3, verbose=False).eval()
    ours = RTDETRDetectionModel("rtdetr-resnet18.yaml", nc=3, verbose=False).eval()
    weights = {k: v + 0.02 * torch.rand_like(v) if v.dim() == 1 else v for k, v in fork.state_dict().items()}
    embed = "model.26.denoising_class_embed.weight"
    written = {**weights, embed: torch.cat((weights[embed], torch.full((1, 256), 9.0)))}  # nc + 1 rows, as forks write
    result = fork.load_state_dict(written)
    assert not result.missing_keys
    assert not result.unexpected_keys
    assert torch.equal(fork.state_dict()[embed], weights[embed])
    ours.load_state_dict({in_own_names(k): v for k, v in fork.state_dict().items()})
    image = torch.rand(1, 3, 96, 128)
    with torch.no_grad():
        torch.testing.assert_close(fork(image)[0], ours(image)[0], rtol=0, atol=1e-5)


def test_load_takes_the_fork_embedding_too() -> None:
    tiny = {"nc": 2, "backbone": [[-1, 1, "Conv", [8, 8, 8]]], "head": [[[-1], 1, "RTDETRDecoder", HEAD]]}
    model, source = (RTDETRDetectionModel(tiny, verbose=False) for _ in range(2))
    state = source.state_dict()
    key = "model.1.denoising_class_embed.weight"
    report = model.load({"state_dict": {**state, key: torch.cat((state[key], state[key][:1]))}}, verbose=False)
    assert not report.fresh
    assert torch.equal(model.state_dict()[key], state[key])


def test_entries_without_slots_are_as_before() -> None:
    assert Entry(nn.Identity, None).fills_slots is None
