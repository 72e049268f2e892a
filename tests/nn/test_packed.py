"""Packed convolutions against torch's own in float32 on the same rounded numbers; where they do not apply, torch's."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nn.test_tasks import tiny
from ultralytics.nn import packed
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.modules.conv import Conv, DWConv, RepConv
from ultralytics.nn.packed import PackedForward, pack
from ultralytics.utils import torch_utils
from ultralytics.utils.torch_utils import native_bf16

BF16 = torch.bfloat16
native = pytest.mark.skipif(
    not (native_bf16("cpu") and packed._has_operator()), reason="needs an x86 CPU with bfloat16 and torch with oneDNN"
)


@pytest.fixture(autouse=True)
def as_if_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which blocks are chosen is decided alike everywhere; what they compute is tested where it can run."""
    monkeypatch.setattr(torch_utils, "_cpu_bf16", lambda: True)
    monkeypatch.setattr(packed, "_has_operator", lambda: True)


def folded(block: Any) -> Any:
    """The block with other than fresh statistics, in eval mode, folded and channels last."""
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, std=0.3)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.normal_(norm.bias, std=0.3)
    return block.eval().fuse().to(memory_format=torch.channels_last)


def maps(c: int, h: int = 12, w: int = 9, b: int = 2) -> Tensor:
    return torch.randn(b, c, h, w).to(memory_format=torch.channels_last)


def run(block: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad(), torch.autocast("cpu", BF16):
        return block(x)


def exact(block: Any, x: Tensor) -> Tensor:
    """Convolution and activation in float32, of weights and maps as bfloat16 holds them."""
    conv = block.conv
    kernel, bias = conv.weight.bfloat16().float(), conv.bias.bfloat16().float()
    x = x.bfloat16().float()
    return block.act(F.conv2d(x, kernel, bias, conv.stride, conv.padding, conv.dilation, conv.groups))


@native
@pytest.mark.parametrize(
    "make",
    [
        lambda: Conv(16, 24, 1),
        lambda: Conv(16, 24, 3, 2, act=nn.ReLU()),
        lambda: Conv(16, 8, 2, 1, 0, act=False),
        lambda: Conv(16, 16, 3, d=2),
        lambda: Conv(16, 32, (1, 5), g=4),
        lambda: DWConv(16, 16, 5, act=nn.ReLU()),
        lambda: RepConv(16, 16, bn=True),
        lambda: RepConv(16, 20, s=2, act=nn.ReLU()),
    ],
)
def test_packed_blocks_equal_float32(make: Any) -> None:
    block = pack(folded(make()))
    assert isinstance(block.forward, PackedForward)
    for x in (maps(16), maps(16, 20, 7, 1), maps(16).bfloat16()):  # the kernel's layout is of the first size
        got = run(block, x)
        assert got.dtype is BF16 and got.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(got.float(), exact(block, x), rtol=2**-8, atol=2**-8)


@native
def test_packed_blocks_follow_their_weights() -> None:
    block, x = pack(folded(Conv(16, 16, 3))), maps(16)
    before = run(block, x)
    with torch.no_grad():
        block.conv.weight.mul_(-1)
        block.conv.bias.add_(1)
    assert not torch.equal(run(block, x), before)
    torch.testing.assert_close(run(block, x).float(), exact(block, x), rtol=2**-8, atol=2**-8)


@native
def test_packed_blocks_run_in_inference_mode() -> None:
    with torch.inference_mode():
        block = pack(folded(Conv(16, 16, 3)))
        x = maps(16)
        for _ in range(2):
            torch.testing.assert_close(run(block, x).float(), exact(block, x), rtol=2**-8, atol=2**-8)


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the operator's use an error."""

    def never(*_: Any) -> Any:
        raise AssertionError("the packed operator ran")

    monkeypatch.setattr(PackedForward, "_laid_out", never)


@pytest.mark.usefixtures("forbidden")
def test_a_block_goes_its_own_way_without_bfloat16() -> None:
    block, x = folded(Conv(16, 16, 3)), maps(16)
    want = block(x)
    pack(block)
    with torch.no_grad():
        torch.testing.assert_close(block(x), want, rtol=0, atol=0)


@pytest.mark.usefixtures("forbidden")
@pytest.mark.parametrize("x", [maps(16).contiguous(), maps(16)[:0], maps(32)[:, :16]], ids=["nchw", "empty", "slice"])
def test_a_block_goes_its_own_way_on_other_maps(x: Tensor) -> None:
    block = folded(Conv(16, 16, 3))
    want = run(block, x)
    torch.testing.assert_close(run(pack(block), x), want, rtol=0, atol=0)


@pytest.mark.usefixtures("forbidden")
def test_a_gradient_passes_a_packed_block() -> None:
    block, x = pack(folded(Conv(16, 16, 3))), maps(16).requires_grad_()
    with torch.autocast("cpu", BF16):
        block(x).sum().backward()
    assert x.grad is not None and bool(x.grad.any())


@pytest.mark.usefixtures("forbidden")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_graphs_hold_standard_operators() -> None:
    block = pack(folded(Conv(16, 16, 3)))
    with torch.no_grad(), torch.autocast("cpu", BF16, cache_enabled=False):
        assert "_convolution" in str(torch.jit.trace(block, maps(16), check_trace=False).inlined_graph)


def test_only_folded_blocks_of_known_kinds_are_packed() -> None:
    class Own(Conv):
        def forward_fuse(self, x: Tensor) -> Tensor:
            return -super().forward_fuse(x)

    left = [Conv(16, 16).eval(), folded(Conv(16, 16, act=nn.GELU())), folded(Own(16, 16))]
    for block in left:
        assert not isinstance(pack(block).forward, PackedForward)
    assert isinstance(pack(folded(Conv(16, 16))).forward, PackedForward)


def test_nothing_is_packed_without_native_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_utils, "_cpu_bf16", lambda: False)
    assert not isinstance(pack(folded(Conv(16, 16))).forward, PackedForward)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda block: pickle.loads(pickle.dumps(block))])
def test_a_copy_is_a_plain_block(again: Any) -> None:
    block = pack(folded(Conv(16, 16, 3)))
    other = again(block)
    assert other.forward.__self__ is other and other.forward.__func__ is Conv.forward_fuse
    assert isinstance(block.forward, PackedForward)
    torch.testing.assert_close(other(maps(16)).shape, block(maps(16)).shape)


def packed_blocks(backend: AutoBackend) -> int:
    return sum(isinstance(m.forward, PackedForward) for m in backend.model.modules())


def test_backends_pack_for_bfloat16_only() -> None:
    model = tiny(nc=3).eval()
    assert packed_blocks(AutoBackend(model, dtype=BF16)) > 5
    assert not packed_blocks(AutoBackend(model))
    assert not packed_blocks(AutoBackend(model, dtype=BF16, fuse=False))
    assert not packed_blocks(AutoBackend(model, dtype=BF16, compile=True))
    assert not any(isinstance(m.forward, PackedForward) for m in model.modules())
