"""Attention rows: golden numbers, batches and map sizes, refused rows, folding, and independent references."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.golden.blocks.cases import BOX_LOSS, load_block_cases
from tests.golden.comparison import check
from tests.golden.fill import fill_, tensor
from tests.nn.modules.finite_differences import assert_gradient
from ultralytics.nn.modules import (
    DHSA,
    ECA,
    EPGO,
    MLCA,
    NAM,
    ACmix,
    BiLevelRoutingAttention_nchw,
    C2f_SHSA,
    CoordAtt,
    DAttention,
    HiLo,
    LocalWindowAttention,
    PolaAttention,
    SEAttention,
    SHSABlock,
)
from ultralytics.nn.modules.attention_blocks.linear import resized_positions
from ultralytics.nn.modules.conv import fuse_children
from ultralytics.nn.registry import REGISTRY, RowContext
from ultralytics.nn.tasks import parse_model
from ultralytics.utils.errors import ConfigError, ModelYAMLError

CASES = [c for c in load_block_cases("c") if c["class"] != BOX_LOSS and not c["id"].startswith("aifi_")]
BUILT_WITH_GLU = "C2f_SHSA_CGLU"
ROWS: dict[str, list[Any]] = {  # each row on 32 channels
    "EMA": [],
    "LSKA": [11],
    "LSKBlock": [],
    "CoordAtt": [],
    "CA": [16],
    "TripletAttention": [],
    "MLCA": [],
    "SimAM": [],
    "SEAttention": [4],
    "ECA": [],
    "GAM_Attention": [],
    "NAM": [],
    "CPCA": [],
    "ACmix": [32],
    "BiLevelRoutingAttention_nchw": [4, 3, None, 2],
    "LocalWindowAttention": [],
    "SHSABlock": [16, 16],
    "C2f_SHSA": [64],
    "C2f_SHSA_EPGO": [64],
}
PARTS: dict[str, Callable[[], nn.Module]] = {  # attentions without a row of their own
    "DAttention": lambda: DAttention(32),
    "DHSA": lambda: DHSA(32),
    "EPGO": lambda: EPGO(32),
    "HiLo": lambda: HiLo(32),
    "Pola": lambda: PolaAttention(32, positions=16),
}
NO_GRADIENT = {"gate"}  # of EPGO: the number of kept entries has none


def build(name: str) -> nn.Module:
    """A filled block in eval mode."""
    torch.manual_seed(0)
    if name in PARTS:
        return fill_(PARTS[name]()).eval()
    entry = REGISTRY.get(name)
    assert entry is not None and entry.rule is not None
    return fill_(entry.cls(*entry.rule(RowContext((32,), tuple(ROWS[name]))).args)).eval()


def network(name: str, row: list[Any]) -> dict[str, Any]:
    """A network of two rows: one convolution of stride 32 to 32 channels, and the block."""
    return {"nc": 2, "backbone": [[-1, 1, "Conv", [32, 3, 32]]], "head": [[-1, 1, name, row]]}


@pytest.mark.parametrize(
    "name", ["EMA", "MLCA", "SEAttention", "ECA", "GAM_Attention", "NAM", "CPCA", "LSKBlock", "CA"]
)
def test_channels_that_a_fork_writes_in_front_are_those_of_the_input(name: str) -> None:
    entry = REGISTRY.get(name)
    assert entry is not None and entry.rule is not None
    for args in ((), (512,)) if name != "GAM_Attention" else ((), (512,), (512, 512)):
        assert entry.rule(RowContext((512,), args)).args == (512,)


def test_ca_with_a_switch_is_the_gate_of_hsfpn() -> None:
    entry = REGISTRY.get("CA")
    assert entry is not None and entry.rule is not None
    plan = entry.rule(RowContext((512,), (4, False)))
    assert (plan.block, plan.args, plan.out_channels) == ("ChannelAttention_HSFPN", (512, 4, False), 512)


def test_arguments_behind_the_channels_stay() -> None:
    for name, args, want in (
        ("SEAttention", (512, 8), (512, 8)),
        ("EMA", (32,), (512, 32)),
        ("GAM_Attention", (512, 512, 2), (512, 2)),
        ("CoordAtt", (512, 16), (512, 16)),
        ("CoordAtt", (256, 16), (512, 16)),
        ("CoordAtt", (512, 512), (512,)),
        ("CoordAtt", (512, 512, 8), (512, 8)),
        ("ACmix", (512, 512), (512, 512)),
        ("ACmix", (512, 512, 5), (512, 512, 5)),
        ("CoordAtt", (16,), (512, 16)),
    ):
        entry = REGISTRY.get(name)
        assert entry is not None and entry.rule is not None
        assert entry.rule(RowContext((512,), args)).args == want


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["id"])
def test_golden(case: Mapping[str, Any]) -> None:
    if BUILT_WITH_GLU in case["class"] and "ConvolutionalGLU" not in REGISTRY:
        pytest.skip("ConvolutionalGLU is not in this tree")
    assert check(case) == []


@pytest.mark.parametrize("name", [*ROWS, *PARTS])
@pytest.mark.parametrize("size", [(9, 13), (13, 9), (8, 8)])
def test_batch_equals_singles_on_any_map(name: str, size: tuple[int, int]) -> None:
    block, x = build(name), tensor(name, (3, 32, *size))
    with torch.no_grad():
        y = block(x)
        alone = torch.cat([block(image[None]) for image in x])
    assert y.shape[0] == 3 and y.shape[2:] == size and y.isfinite().all()
    torch.testing.assert_close(y, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*ROWS, *PARTS])
def test_gradients_reach_the_parameters(name: str) -> None:
    block, x = build(name).train(), tensor(name, (2, 32, 7, 9)).requires_grad_()
    block(x).square().sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
    dead = [k for k, p in block.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
    assert [k for k in dead if not NO_GRADIENT & set(k.split("."))] == []


@pytest.mark.parametrize("name", [*ROWS, *PARTS])
@pytest.mark.parametrize("training", [False, True])
def test_gradient_of_one_image_equals_finite_differences(name: str, training: bool) -> None:
    """For one image the gradient of tokens has a layout that the CPU batch norm before them must not misread."""
    block = build(name)
    for parameter in block.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)
    assert_gradient(block, training)


@pytest.mark.parametrize("name", [*ROWS, *PARTS])
def test_fused_equals_unfused(name: str) -> None:
    block, x = build(name), tensor(name, (1, 32, 7, 9))
    fused = fuse_children(nn.Sequential(copy.deepcopy(block)))
    with torch.no_grad():
        torch.testing.assert_close(fused(x), block(x), rtol=1e-4, atol=1e-4)
    norms = [m for m in fused.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == (1 if name == "NAM" else 0)  # that of NAM follows no convolution


@pytest.mark.parametrize("name", ROWS)
def test_rows_build_from_yaml(name: str) -> None:
    net, _ = parse_model(network(name, ROWS[name]), verbose=False)
    assert net.eval()(torch.zeros(1, 3, 320, 320)).shape == (1, 64 if name.startswith("C2f") else 32, 10, 10)


@pytest.mark.parametrize(
    ("name", "row", "text"),
    [
        ("EMA", [5], "32 channels are not divisible by factor=5; give a divisor"),
        ("LSKA", [1024], "kernel size 1024 has no form; choose from 7, 11, 23, 35, 41, 53"),
        ("SEAttention", [64], "reduction=64 must be 1 to 32"),
        ("ECA", [4], "kernel size 4 must be odd"),
        ("SimAM", [0], "lambda=0 must be above 0"),
        ("GAM_Attention", [33], "rate=33 must be 1 to 32"),
        ("MLCA", [5, 2, 1, 2.0], "local_weight in 0..1"),
        ("CPCA", [0], "reduction=0 must be 1 to 32"),
        ("ACmix", [32, 7, 5], "32 output channels are not divisible by 5 heads"),
        ("ACmix", [32, 6], "must be odd"),
        ("BiLevelRoutingAttention_nchw", [5], "32 channels are not divisible by 5 heads"),
        ("BiLevelRoutingAttention_nchw", [8, 2, None, 5], "topk=5 must be 1 to 4"),
        ("LocalWindowAttention", [16, 3], "32 channels are not divisible by 3 heads"),
        ("LocalWindowAttention", [0], "key_dim=0"),
        ("SHSABlock", [16, 64], "needs 1 <= pdim <= 32"),
        ("C2f_SHSA", [32], "give c2 of at least 64"),
        ("C2f_SHSA", [64, False, 2], "g=2 has no effect"),
    ],
)
def test_wrong_rows_are_refused_with_the_remedy(name: str, row: list[Any], text: str) -> None:
    entry = REGISTRY.get(name)
    assert entry is not None and entry.rule is not None
    with pytest.raises(ConfigError) as e:
        entry.cls(*entry.rule(RowContext((32,), tuple(row))).args)
    assert text in str(e.value)
    with pytest.raises(ModelYAMLError, match=rf"layer 1 \({name}\)"):
        parse_model(network(name, row), verbose=False)


def test_parts_refuse_widths_that_they_cannot_have() -> None:
    refused: list[Callable[[], nn.Module]] = [
        lambda: DHSA(30, 8),
        lambda: DHSA(27, 3),
        lambda: HiLo(32, 1),
        lambda: HiLo(32, 8, 1),
        lambda: PolaAttention(24),
        lambda: DAttention(30),
        lambda: DAttention(8, 8, 3),
        lambda: EPGO(30, 4),
    ]
    for make in refused:
        with pytest.raises(ConfigError):
            make()
    with pytest.raises(ConfigError, match="more than 3 cells"):
        ACmix(8, 8)(torch.zeros(1, 8, 3, 9))


def test_blocks_that_start_at_zero_or_as_the_identity() -> None:
    x = torch.randn(2, 32, 5, 6)
    assert not LocalWindowAttention(32).eval()(x).any()
    for block in (SHSABlock(32, 16, 32), SHSABlock(32, 16, 32, pruned=True)):
        assert torch.equal(block.train()(x), x)


# -------------------------------------------------------------------------------------------- independent references
def test_channel_gates_against_their_formulas() -> None:
    x = tensor("x", (2, 8, 5, 3))
    mean = x.mean((2, 3))
    se, eca, nam = fill_(SEAttention(8, 2)), fill_(ECA(8)), fill_(NAM(8)).eval()
    gate = torch.sigmoid(F.relu(mean @ se.fc[0].weight.T) @ se.fc[2].weight.T)
    torch.testing.assert_close(se(x), x * gate[..., None, None])
    padded, kernel = F.pad(mean, (1, 1)), eca.conv.weight[0, 0]
    gate = torch.sigmoid(torch.stack([(padded[:, i : i + 3] * kernel).sum(1) for i in range(8)], 1))
    torch.testing.assert_close(eca(x), x * gate[..., None, None])
    weight = nam.bn2.weight.abs() / nam.bn2.weight.abs().sum()
    torch.testing.assert_close(nam(x), x * torch.sigmoid(nam.bn2(x) * weight[:, None, None]))


def test_nam_with_all_weights_zero_is_finite() -> None:
    block = NAM(4)
    nn.init.zeros_(block.bn2.weight)
    x = torch.randn(2, 4, 3, 3, requires_grad=True)
    block(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize(("channels", "k"), [(16, 3), (64, 3), (256, 5), (4, 1)])
def test_mlca_kernel_grows_with_the_channels(channels: int, k: int) -> None:
    assert MLCA(channels).conv.kernel_size == (k,)


def test_coordinate_attention_accepts_the_official_row() -> None:
    entry = REGISTRY.get("CoordAtt")
    assert entry is not None and entry.rule is not None and entry.cls is CoordAtt
    assert entry.rule(RowContext((64,), (64, 16))).args == (64, 16)


def masked_reference(block: BiLevelRoutingAttention_nchw, x: Tensor) -> Tensor:
    """Bi-level routing by loops over regions; cells beyond the map do not exist."""
    q, k, v = block.qkv_linear(x)[0].chunk(3)  # (C, H, W)
    c, height, width = q.shape
    h, w = -(-height // block.n_win), -(-width // block.n_win)
    cut = [
        (slice(i * h, min((i + 1) * h, height)), slice(j * w, min((j + 1) * w, width)))
        for i in range(block.n_win)
        for j in range(block.n_win)
    ]
    cut = [(a, b) for a, b in cut if a.start < height and b.start < width]
    out = torch.zeros_like(q)
    keys = torch.stack([k[:, a, b].mean((1, 2)) for a, b in cut])
    for a, b in cut:
        best = (keys @ q[:, a, b].mean((1, 2))).topk(min(block.topk, len(cut))).indices
        near_k, near_v = (torch.cat([t[:, cut[i][0], cut[i][1]].flatten(1) for i in best], 1) for t in (k, v))
        parts = []
        for head in range(block.num_heads):
            part = slice(head * c // block.num_heads, (head + 1) * c // block.num_heads)
            scores = q[part, a, b].flatten(1).T @ near_k[part] * c**-0.5
            parts.append((scores.softmax(1) @ near_v[part].T).T)
        out[:, a, b] = torch.cat(parts).reshape(out[:, a, b].shape)
    return block.output_linear(out[None] + block.lepe(v[None]))


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (5, 12), (4, 2)])
def test_bilevel_equals_loops(size: tuple[int, int]) -> None:
    block = fill_(BiLevelRoutingAttention_nchw(16, 4, 3, None, 3)).eval()
    x = tensor("x", (1, 16, *size))
    torch.testing.assert_close(block(x), masked_reference(block, x), rtol=1e-4, atol=1e-5)


def test_hilo_windows_at_the_border_hold_their_own_cells_alone() -> None:
    block = fill_(HiLo(16, 4)).eval()
    x = tensor("x", (1, 16, 5, 3))
    whole = block(x)
    corner = block(x[:, :, 4:, 2:])  # the last window is one cell
    torch.testing.assert_close(whole[:, :8, 4:, 2:], corner[:, :8])
    pair = block(x[:, :, 4:, :2])  # one row of two cells
    torch.testing.assert_close(whole[:, :8, 4:, :2], pair[:, :8])


def test_cascade_by_loops_of_pairs() -> None:
    """The bias of a pair of cells depends on the absolute distances alone; heads are fed by the ones before."""
    block = fill_(LocalWindowAttention(8, 4, 2, 3)).eval()
    attn, x = block.attn, tensor("x", (1, 8, 3, 3))
    previous, outputs = torch.zeros(1, 4, 3, 3), []
    for i, chunk in enumerate(x.chunk(2, 1)):
        q, k, v = attn.qkvs[i](chunk + previous).split([4, 4, 4], 1)
        q, k, v = (t.flatten(2)[0].T for t in (attn.dws[i](q), k, v))  # (9, 4)
        scores = q @ k.T / 2
        for a in range(9):
            for b in range(9):
                gap = abs(a // 3 - b // 3) * 3 + abs(a % 3 - b % 3)
                scores[a, b] = scores[a, b] + attn.attention_biases[i, gap]
        previous = (scores.softmax(1) @ v).T.reshape(1, 4, 3, 3)
        outputs.append(previous)
    torch.testing.assert_close(block(x), attn.proj(torch.cat(outputs, 1)))


def test_weights_loaded_in_eval_mode_count() -> None:
    block = fill_(LocalWindowAttention(8, 4, 2, 3)).eval()
    x = tensor("x", (1, 8, 3, 3))
    before = block(x)
    nn.init.normal_(block.attn.attention_biases, std=3)
    assert not torch.allclose(block(x), before)


def test_pruned_attention_keeps_the_largest() -> None:
    block = fill_(EPGO(16, 2)).eval()
    x = tensor("x", (2, 16, 4, 3))
    for bias, kept in ((-50.0, 1), (50.0, 12)):  # the gate says none, or all
        nn.init.constant_(block.gate[2].bias, bias)
        q, k, v = block.qkv(x).unflatten(1, (2, -1)).flatten(3).split([4, 4, 8], 2)
        scores = q.transpose(2, 3) @ k / 2
        probs = torch.zeros_like(scores)
        for row in range(12):
            value, index = scores[:, :, row].topk(kept)
            probs[:, :, row] = probs[:, :, row].scatter(2, index, value.softmax(2))
        y = (v @ probs.transpose(2, 3)).reshape(x.shape)
        torch.testing.assert_close(block(x), block.proj(y + block.pe(v.reshape(x.shape))), rtol=1e-4, atol=1e-5)


def test_dhsa_leaves_its_input_and_returns_the_sorted_difference_on_request() -> None:
    x = tensor("x", (1, 16, 5, 7))
    plain, fork = (fill_(DHSA(16, 4, sorted_shortcut=kind)).eval() for kind in (False, True))
    before = x.clone()
    y = plain(x)
    assert torch.equal(x, before)
    ordered = torch.cat((x[:, :8].sort(2).values.sort(3).values, x[:, 8:]), 1)
    torch.testing.assert_close(x + fork(x), ordered + y)


def test_position_tables_are_resized_for_other_maps() -> None:
    table = torch.arange(9.0).reshape(1, 9, 1)
    assert resized_positions(table, 3, 3) is table and resized_positions(table, 1, 9) is table
    bigger = resized_positions(table, 3, 6)[0, :, 0].reshape(3, 6)
    torch.testing.assert_close(bigger.mean(1), torch.tensor([1.0, 4.0, 7.0]))
    with pytest.raises(ConfigError, match="build it with 12 positions"):
        resized_positions(torch.zeros(1, 8, 1), 3, 4)


def test_members_of_c2f_keep_the_cross_stage_keys() -> None:
    keys = {k.split(".")[0] for k in C2f_SHSA(16, 64, 2).state_dict()}
    assert keys == {"cv1", "cv2", "m"}
