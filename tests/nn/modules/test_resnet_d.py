"""ConvNormLayer and Blocks: row forms, recorded parameter counts, variants by slow references, exchanged branches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.golden.blocks.fill import fill_, tensor
from tests.nn.modules.block_checks import check_block, parameters_of, parameters_without_gradient, plan_of
from ultralytics.nn.build.builder import parse_model
from ultralytics.nn.modules.resnet_d import BRANCHES, Blocks, Branch, BranchTable, ConvNormLayer, LinearGate
from ultralytics.nn.registry import REGISTRY, Entry
from ultralytics.utils.errors import ConfigError, ConfigTypeError


# ------------------------------------------------------------------------------------------------------ ConvNormLayer
@pytest.mark.parametrize(
    ("row", "args", "biased"),
    [
        ([32, 3, 2, None, False, "relu"], (3, 32, 3, 2, None, False, "relu"), False),
        ([32, 3, 2, 4, "relu"], (3, 32, 3, 2, None, True, "relu", 4), True),
        ([32, 3, 2], (3, 32, 3, 2), False),
    ],
)
def test_row_forms_of_the_layer(row: list[Any], args: tuple[Any, ...], biased: bool) -> None:
    plan = plan_of("ConvNormLayer", row, 3)
    assert (plan.args, plan.out_channels) == (args, 32)
    layer = ConvNormLayer(*(12, *args[1:]))
    assert (layer.conv.bias is not None) is biased
    assert isinstance(layer.act, nn.Identity) is (row[-1] != "relu")


def test_width_scales_the_layer() -> None:
    assert plan_of("ConvNormLayer", [64, 3, 2], 3, width=0.5).out_channels == 32


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("relu", F.relu),
        ("ReLU", F.relu),
        ("silu", F.silu),
        ("gelu", F.gelu),
        ("leaky_relu", lambda x: F.leaky_relu(x, 0.01)),
        (None, lambda x: x),
    ],
)
def test_activations_by_name(name: str | None, reference: Any) -> None:
    layer = fill_(ConvNormLayer(4, 6, 3, 1, act=name)).eval()
    x = tensor("x", (1, 4, 5, 6))
    with torch.no_grad():
        torch.testing.assert_close(layer(x), reference(layer.norm(F.conv2d(x, layer.conv.weight, padding=1))))


def test_wrong_activations_and_short_rows_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"act='swish2'.*relu"):
        ConvNormLayer(3, 8, 3, 1, act="swish2")
    with pytest.raises(ConfigTypeError, match="null for none"):
        ConvNormLayer(3, 8, 3, 1, act=True)
    with pytest.raises(ValueError, match=r"needs \[c2, k, s"):
        plan_of("ConvNormLayer", [32, 3], 3)


@pytest.mark.parametrize(("k", "s", "size"), [(3, 2, (7, 5)), (1, 1, (7, 5)), (3, 1, (1, 1)), (5, 2, (6, 9))])
def test_layer_folds(k: int, s: int, size: tuple[int, int]) -> None:
    out = (8, -(-size[0] // s), -(-size[1] // s))
    check_block(ConvNormLayer(4, 8, k, s, bias=True, act="relu"), (4, *size), out)


# ------------------------------------------------------------------------------------------------------------- Blocks
COUNTS = {  # parameters of the four stages of the R18, R34 and R50 files
    18: ("BasicBlock", (2, 2, 2, 2), (152_192, 525_568, 2_099_712, 8_393_728)),
    34: ("BasicBlock", (3, 4, 6, 3), (226_176, 1_116_416, 6_822_400, 13_114_368)),
    50: ("BottleNeck", (3, 4, 6, 3), (215_808, 1_219_584, 7_098_368, 14_964_736)),
}


@pytest.mark.parametrize("depth", COUNTS)
def test_parameters_of_the_resnets(depth: int) -> None:
    """Counts of rows 4 to 7, as recorded from the published files."""
    block, counts, want = COUNTS[depth]
    c1, got = 64, []
    for stage, (width, count) in enumerate(zip((64, 128, 256, 512), counts, strict=True), start=2):
        row = [width, block, count, stage, "relu"]
        got.append(parameters_of("Blocks", row, c1))
        c1 = plan_of("Blocks", row, c1, width=0.25).out_channels  # width does not apply
    assert tuple(got) == want


def test_second_row_form_has_the_count_as_repeats() -> None:
    plan = plan_of("Blocks", [64, "BottleNeck", 3, False], 64, repeats=4)
    assert plan.args == (64, 64, "BottleNeck", 4, 3, "relu", "b", True, False)
    assert (plan.out_channels, plan.repeats_inside) == (256, True)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([64, "BasicBlock", 2], "needs"),
        ([64, "BasikBlock", 2, 2, "relu"], "BasicBlock or BottleNeck"),
        ([64.0, "BasicBlock", 2, 2, "relu"], "positive integer"),
        ([0, "BasicBlock", 2, 2, "relu"], "positive integer"),
        ([64, "BasicBlock", 2, 2, "relu", 7], r"\[7\] after the activation"),
    ],
)
def test_wrong_rows_are_refused(row: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_of("Blocks", row, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count=0"),
        ({"variant": "e"}, "variant='e'"),
        ({"block": "BasicBlock_Nothing"}, "'Nothing', which is not registered"),
        ({"block": "SHSA"}, "BasicBlock or BottleNeck"),
        ({"att": True, "c2": 8}, "reduced by 16"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Blocks(**{"c1": 8, "c2": 16, "block": "BasicBlock", "count": 1, "stage": 3, **options})


@pytest.mark.parametrize("block", ["BasicBlock", "BottleNeck"])
@pytest.mark.parametrize("variant", ["a", "b", "c", "d"])
@pytest.mark.parametrize(("stage", "size"), [(2, (7, 5)), (3, (7, 5)), (3, (8, 6)), (5, (1, 1))])
def test_shapes_batch_and_folds(block: str, variant: str, stage: int, size: tuple[int, int]) -> None:
    s = 1 if stage == 2 else 2
    out = (16 * (4 if block == "BottleNeck" else 1), -(-size[0] // s), -(-size[1] // s))
    check_block(Blocks(8, 16, block, 2, stage, variant=variant, bias=variant == "b", att=True), (8, *size), out)


@pytest.mark.parametrize("block", ["BasicBlock", "BottleNeck"])
def test_a_gradient_reaches_every_parameter(block: str) -> None:
    assert parameters_without_gradient(Blocks(8, 16, block, 2, 3, att=True), (8, 8, 6)) == set()


@pytest.mark.parametrize("variant", ["b", "d"])
def test_shortcut_of_an_odd_map(variant: str) -> None:
    """Variant d averages the cells that a window has; b takes every second cell."""
    stage = fill_(Blocks(4, 6, "BasicBlock", 1, 3, variant=variant)).eval()
    block, x = stage.blocks[0], tensor("x", (1, 4, 3, 5))
    if variant == "d":
        cells = torch.stack(
            [x[..., 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3)) for i in (0, 1) for j in (0, 1, 2)], -1
        ).view(1, 4, 2, 3)
        layer = block.short.conv
    else:
        cells, layer = x[..., ::2, ::2], block.short
    with torch.no_grad():
        mixed = torch.einsum("oc,bchw->bohw", layer.conv.weight[..., 0, 0], cells)
        torch.testing.assert_close(block.short(x), layer.norm(mixed))


def test_where_a_bottleneck_has_its_stride() -> None:
    for variant, strides in (("a", (2, 1)), ("b", (1, 2)), ("d", (1, 2))):
        block: Any = Blocks(8, 4, "BottleNeck", 1, 3, variant=variant).blocks[0]
        assert (block.branch2a.conv.stride[0], block.branch2b.conv.stride[0]) == strides


# -------------------------------------------------------------------------------------------------- exchanged branches
class Doubled(nn.Module):
    """A block without a stride, for these tests."""

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((c1, 1, 1), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


@pytest.fixture
def doubled(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(REGISTRY._entries, "Doubled", Entry(Doubled, None))
    return "Doubled"


def test_any_registered_block_stands_for_the_branch(doubled: str) -> None:
    stage = fill_(Blocks(8, 8, f"BasicBlock_{doubled}", 2, 2)).eval()
    assert all(isinstance(b.branch2b, Doubled) for b in stage.blocks)
    block, x = stage.blocks[1], tensor("x", (1, 8, 4, 3))
    with torch.no_grad():
        torch.testing.assert_close(block(x), F.relu(block.branch2a(x) * block.branch2b.scale + x))


def test_a_block_without_a_stride_follows_a_pool(doubled: str) -> None:
    check_block(Blocks(8, 8, f"BottleNeck_{doubled}", 2, 3), (8, 7, 6), (32, 4, 3))


class Recorded(nn.Module):
    """A block that keeps what it is built with, for these tests."""

    def __init__(self, c: int, s: int, act: nn.Module) -> None:
        super().__init__()
        self.built = c, s
        self.act = act


def test_a_branch_gets_the_activation_of_the_convolution_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY._entries, "Recorded", Entry(Recorded, None))
    monkeypatch.setitem(BRANCHES._branches, "Kept", Branch("Recorded", lambda c, s, act: (c, s, act), strided=True))
    basic: Any = Blocks(8, 16, "BasicBlock_Kept", 1, 3).blocks[0].branch2b
    bottle: Any = Blocks(8, 16, "BottleNeck_Kept", 1, 3, "silu").blocks[0].branch2b
    assert (basic.built, type(basic.act)) == ((16, 1), nn.Identity)
    assert (bottle.built, type(bottle.act)) == ((16, 2), nn.SiLU)


def test_entries_of_the_table(doubled: str) -> None:
    table = BranchTable({})
    table.add("Twice", Branch("Doubled", _pair))
    table.add("Twice", Branch("Doubled", _pair))
    assert isinstance(table.make("Twice", 4, 1, nn.Identity()), Doubled)
    with pytest.raises(ConfigError, match="already stands for Doubled"):
        table.add("Twice", Branch("Conv", _pair))
    with pytest.raises(ConfigError, match=r"'Dubbled', which is not registered; did you mean Doubled"):
        table.make("Dubbled", 4, 1, nn.Identity())


def _pair(c: int, s: int, act: nn.Module) -> tuple[int, int]:
    return c, c


@pytest.mark.parametrize("word", ["DySnakeConv", "EMA", "C2f", "Faster_CGLU"])
def test_blocks_of_every_rule(word: str) -> None:
    """Those that give other channels are followed by a 1x1 Conv back to them."""
    check_block(Blocks(32, 32, f"BasicBlock_{word}", 1, 3), (32, 8, 6), (32, 4, 3))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("ADown", "cannot stand for a 3x3 of 32 channels: it changes the map's size"),
        ("CGAFusion", "it is a join of several maps"),
        ("Detect", "it is a head"),
        ("ELAN1", "missing 2 required positional arguments"),
    ],
)
def test_blocks_that_cannot_stand_for_the_branch(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Blocks(32, 32, f"BasicBlock_{word}", 1, 2)


def test_the_word_of_another_class_is_not_shvits() -> None:
    """`BasicBlock` is SHViT's in the registry, and a string inside Blocks."""
    entry = REGISTRY.get("BasicBlock")
    assert entry is not None and entry.cls.__module__.endswith("shsa")
    assert type(Blocks(8, 8, "BasicBlock", 1, 2).blocks[0]) is not entry.cls
    assert "Nothing" not in REGISTRY and isinstance(BRANCHES, BranchTable)


# ------------------------------------------------------------------------------------------------------------- a model
def test_rows_of_a_model() -> None:
    """The first rows of a published file through the builder, width and depth scaling included."""
    rows: list[list[Any]] = [
        [-1, 1, "ConvNormLayer", [32, 3, 2, None, False, "relu"]],
        [-1, 1, "ConvNormLayer", [64, 3, 1, 1, "relu"]],
        [-1, 1, "nn.MaxPool2d", [3, 2, 1]],
        [-1, 1, "Blocks", [64, "BasicBlock", 2, 2, "relu"]],
        [-1, 4, "Blocks", [32, "BottleNeck", 3, True]],
    ]
    cfg = {"nc": 4, "depth_multiple": 0.5, "width_multiple": 0.5, "backbone": rows[:4], "head": rows[4:]}
    layers, _ = parse_model(cfg, verbose=False)
    with torch.no_grad():
        assert layers.eval()(torch.zeros(1, 3, 70, 64)).shape == (1, 128, 9, 8)
    assert len(layers[4].blocks) == 2  # 4 repeats at half the depth


def test_the_gate_against_einsum() -> None:
    gate, x = fill_(LinearGate(32, 4)), tensor("x", (2, 32, 3, 5))
    down, up = gate.fc[0].weight, gate.fc[2].weight
    want = torch.sigmoid(F.relu(x.mean((2, 3)) @ down.T) @ up.T)
    torch.testing.assert_close(gate(x), torch.einsum("bchw,bc->bchw", x, want))
