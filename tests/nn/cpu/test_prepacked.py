"""Prepacked layers against torch's own in float32 on the same rounded numbers; where they do not apply, torch's."""

from __future__ import annotations

import copy
import pickle
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nn.cpu.blocks import BF16, NATIVE, as_if_native, folded, maps, native, run
from tests.nn.networks import tiny
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.cpu import optimize_for_cpu
from ultralytics.nn.cpu.prepacked import Prepacked, PrepackedConv, PrepackedLinear, PrepackedRows, ScaledConv, prepack
from ultralytics.nn.modules.attention import SelfAttention
from ultralytics.nn.modules.conv import Conv, DWConv, RepConv
from ultralytics.nn.modules.head import FoldedProjection
from ultralytics.nn.modules.transformer import AIFI
from ultralytics.utils import torch_utils

__all__ = ("as_if_native",)  # a fixture that holds for every test here


def exact(block: Any, x: Tensor) -> Tensor:
    """Convolution and activation in float32, of weights and maps as bfloat16 holds them."""
    conv = getattr(block, "conv", block)
    kernel, bias = conv.weight.bfloat16().float(), conv.bias.bfloat16().float()
    x = x.bfloat16().float()
    y = F.conv2d(x, kernel, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    return y if conv is block else block.act(y)


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
        lambda: nn.Conv2d(16, 20, 3),
    ],
)
def test_packed_blocks_equal_float32(make: Any) -> None:
    block = prepack(folded(make()))
    assert isinstance(block.forward, PrepackedConv)
    for x in (maps(16), maps(16, 20, 7, 1), maps(16).bfloat16()):
        got = run(block, x)
        assert got.dtype is BF16 and got.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(got.float(), exact(block, x), rtol=2**-8, atol=2**-8)


@native
@pytest.mark.parametrize("shape", [(3, 16), (2, 5, 16), (16,), (16, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_linear_layers_equal_float32(shape: tuple[int, ...], bias: bool) -> None:
    layer, x = nn.Linear(16, 24, bias), torch.randn(shape)
    x = x.t() if shape == (16, 3) else x
    weight, shift = (None if p is None else p.bfloat16().float() for p in (layer.weight, layer.bias))
    want = F.linear(x.bfloat16().float(), weight, shift)
    prepack(layer)
    assert isinstance(layer.forward, PrepackedLinear)
    got = run(layer, x)
    assert got.dtype is BF16
    torch.testing.assert_close(got.float(), want, rtol=2**-8, atol=2**-8)


def projection() -> FoldedProjection:
    norm = nn.BatchNorm2d(24).eval()
    folded(nn.Sequential(norm))
    nn.init.uniform_(norm.weight, 0.5, 2)
    return FoldedProjection(nn.Conv2d(16, 24, 1, bias=False), norm)


@native
def test_a_projection_with_a_scale_of_its_own_equals_float32() -> None:
    block, x = projection(), maps(16)
    prepack(block)
    assert isinstance(block.forward, ScaledConv)

    def want() -> Tensor:
        return F.conv2d(x.bfloat16().float(), block.scaled().bfloat16().float(), block.bias.bfloat16().float())

    torch.testing.assert_close(run(block, x).float(), want(), rtol=2**-8, atol=2**-8)
    for parameter in (block.scale, block.weight, block.bias):
        before = run(block, x)
        parameter.mul_(-1.5)
        assert not torch.equal(run(block, x), before)
        torch.testing.assert_close(run(block, x).float(), want(), rtol=2**-8, atol=2**-8)


@native
def test_projections_in_front_of_attention_equal_float32() -> None:
    block, x = SelfAttention(16, 4), torch.randn(2, 5, 16)
    nn.init.normal_(block.in_proj_bias)
    prepack(block)
    assert isinstance(block.project_query_key, PrepackedRows) and isinstance(block.project_value, PrepackedRows)

    def check() -> None:
        weight, bias = block.in_proj_weight.bfloat16().float(), block.in_proj_bias.bfloat16().float()
        want = F.linear(x.bfloat16().float(), weight, bias)
        with torch.no_grad(), torch.autocast("cpu", BF16):
            got = torch.cat((block.project_query_key(x), block.project_value(x)), -1)
        assert got.dtype is BF16
        torch.testing.assert_close(got.float(), want, rtol=2**-8, atol=2**-8)

    check()
    with torch.no_grad():
        block.in_proj_weight.mul_(-1)
        block.in_proj_bias.add_(1)
    check()


def test_attention_of_another_kind_keeps_its_projections() -> None:
    class Own(SelfAttention):
        def project_value(self, x: Tensor) -> Tensor:
            return -super().project_value(x)

    x = torch.randn(1, 3, 8)
    block = Own(8, 2)
    want = block.project_value(x)
    torch.testing.assert_close(prepack(block).project_value(x), want, rtol=0, atol=0)


@native
@pytest.mark.parametrize("x", [maps(16).contiguous(), maps(32)[:, :16], maps(3).contiguous()])
def test_maps_are_put_channels_last_where_the_kernel_lies_so(x: Tensor) -> None:
    block = prepack(folded(Conv(x.shape[1], 16, 3)))
    torch.testing.assert_close(run(block, x).float(), exact(block, x), rtol=2**-8, atol=2**-8)


@native
def test_packed_blocks_follow_their_weights() -> None:
    block, x = prepack(folded(Conv(16, 16, 3))), maps(16)
    run(block, x)
    for change in (lambda: block.conv.weight.mul_(-1), lambda: block.conv.bias.add_(1)):
        before = run(block, x)
        with torch.no_grad():
            change()
        assert not torch.equal(run(block, x), before)
        torch.testing.assert_close(run(block, x).float(), exact(block, x), rtol=2**-8, atol=2**-8)


@native
@pytest.mark.parametrize("name", ["weight", "bias"])
@pytest.mark.parametrize(
    "make", [lambda: Conv(16, 16, 3, act=False), lambda: nn.Linear(16, 16)], ids=["conv", "linear"]
)
def test_a_new_parameter_at_an_old_address_is_seen(make: Any, name: str) -> None:
    block = prepack(folded(make()))
    layer = getattr(block, "conv", block)
    memory = getattr(layer, name).detach().contiguous().numpy().copy()

    def put() -> None:
        setattr(layer, name, nn.Parameter(torch.from_numpy(memory)))

    x = maps(16) if layer is not block else torch.randn(3, 16)
    put()
    before = run(block, x)
    address = getattr(layer, name).data_ptr()
    memory += 1
    put()
    assert (getattr(layer, name).data_ptr(), getattr(layer, name)._version) == (address, 0)
    torch.testing.assert_close(run(block, x), run(copy.deepcopy(block), x), rtol=0.03, atol=0.03)
    assert not torch.equal(run(block, x), before)


@native
def test_weights_that_were_replaced_are_not_kept_alive() -> None:
    block = prepack(nn.Linear(16, 16))
    run(block, torch.randn(3, 16))
    old = weakref.ref(block.weight)
    block.weight = nn.Parameter(torch.randn(16, 16))
    assert old() is None


@native
def test_kernels_are_laid_out_for_each_size_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the layout for a map of another size, a network was seen to take twice the time."""
    seen: list[Any] = []
    lay_out = PrepackedConv.lay_out
    monkeypatch.setattr(PrepackedConv, "lay_out", lambda self, w, size: seen.append(size[2:]) or lay_out(self, w, size))
    block = prepack(folded(Conv(16, 16, 3)))
    for size in ((4, 4), (4, 4), (8, 6), (8, 6), (4, 4)):
        run(block, maps(16, *size))
    assert seen == [(4, 4), (8, 6), (4, 4)]


@native
@pytest.mark.parametrize("part", ["conv", "act"])
@pytest.mark.parametrize("add", ["register_forward_hook", "register_forward_pre_hook"])
@pytest.mark.parametrize("make", [lambda: Conv(16, 16, 3), lambda: RepConv(16, 16, act=nn.ReLU())], ids=["one", "two"])
def test_hooks_on_the_parts_of_a_block_fire(make: Any, add: str, part: str) -> None:
    block, x = prepack(folded(make())), maps(16)
    want = run(block, x)
    seen: list[Any] = []
    hook = getattr(getattr(block, part), add)(lambda *args: seen.append(args[1][0].shape))
    torch.testing.assert_close(run(block, x).float(), want.float(), rtol=0.02, atol=0.02)
    assert seen == [x.shape]
    hook.remove()
    torch.testing.assert_close(run(block, x), want, rtol=0, atol=0)
    assert len(seen) == 1


@native
def test_packed_blocks_run_in_inference_mode() -> None:
    with torch.inference_mode():
        block = prepack(folded(Conv(16, 16, 3)))
        x = maps(16)
        for _ in range(2):
            torch.testing.assert_close(run(block, x).float(), exact(block, x), rtol=2**-8, atol=2**-8)


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the operator's use an error."""

    def never(*_: Any) -> Any:
        raise AssertionError("the packed operator ran")

    for kind in (PrepackedConv, PrepackedLinear):
        monkeypatch.setattr(kind, "run", never)


@pytest.mark.usefixtures("forbidden")
def test_a_block_goes_its_own_way_without_bfloat16() -> None:
    block, x = folded(Conv(16, 16, 3)), maps(16)
    want = block(x)
    prepack(block)
    with torch.no_grad():
        torch.testing.assert_close(block(x), want, rtol=0, atol=0)


@pytest.mark.usefixtures("forbidden")
@pytest.mark.parametrize("x", [maps(16).contiguous(), maps(16)[:0], maps(32)[:, :16]], ids=["nchw", "empty", "slice"])
def test_a_block_goes_its_own_way_on_other_maps(x: Tensor) -> None:
    block = folded(Conv(16, 16, 3)).to(memory_format=torch.contiguous_format)
    want = run(block, x)
    torch.testing.assert_close(run(prepack(block), x), want, rtol=0, atol=0)


@pytest.mark.usefixtures("forbidden")
def test_a_gradient_passes_a_packed_block() -> None:
    block, x = prepack(folded(Conv(16, 16, 3))), maps(16).requires_grad_()
    with torch.autocast("cpu", BF16):
        block(x).sum().backward()
    assert x.grad is not None and bool(x.grad.any())


@pytest.mark.usefixtures("forbidden")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_graphs_hold_standard_operators() -> None:
    block = prepack(folded(Conv(16, 16, 3)))
    with torch.no_grad(), torch.autocast("cpu", BF16, cache_enabled=False):
        assert "_convolution" in str(torch.jit.trace(block, maps(16), check_trace=False).inlined_graph)


def test_only_folded_blocks_of_known_kinds_are_packed() -> None:
    class Own(Conv):
        def forward_fuse(self, x: Tensor) -> Tensor:
            return -super().forward_fuse(x)

    class OwnLinear(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return -super().forward(input)

    left: list[Any] = [Conv(16, 16).eval(), folded(Conv(16, 16, act=nn.GELU())), folded(Own(16, 16)), OwnLinear(4, 4)]
    left += [nn.Conv2d(4, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), nn.SiLU()]
    for block in left:
        assert not isinstance(prepack(block).forward, Prepacked)
    assert isinstance(left[1].conv.forward, PrepackedConv)  # without the activation
    assert isinstance(prepack(folded(Conv(16, 16))).forward, PrepackedConv)


@pytest.mark.parametrize("name", ["conv.weight", "conv.bias"])
def test_weights_that_are_not_finite_give_nan_as_torch_has_it(name: str) -> None:
    """Inside of a convolution ReLU makes 0 of NaN, so boxes of a run that diverged would look sound."""
    block, x = folded(Conv(16, 16, 3, act=nn.ReLU())), maps(16)
    with torch.no_grad():
        block.get_parameter(name)[3].fill_(torch.nan)
    want = run(block, x)
    assert bool(want[:, 3].isnan().all()) and not bool(want[:, 4].isnan().any())
    assert not any(isinstance(m.forward, Prepacked) for m in optimize_for_cpu(block).modules())
    torch.testing.assert_close(run(block, x), want, rtol=0, atol=0, equal_nan=True)


def test_nothing_is_packed_without_native_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_utils, "_cpu_bf16", lambda: False)
    assert not any(isinstance(m.forward, Prepacked) for m in optimize_for_cpu(folded(Conv(16, 16))).modules())


@pytest.mark.parametrize("again", [copy.deepcopy, lambda block: pickle.loads(pickle.dumps(block))])
@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: Conv(16, 16, 3), maps(16)),
        (lambda: nn.Linear(16, 4), maps(4, 3, 16)),
        (lambda: projection(), maps(16)),
        (lambda: AIFI(16, 32, 4), maps(16)),
    ],
)
def test_a_copy_is_a_plain_block(again: Any, make: Any, x: Tensor) -> None:
    block = prepack(folded(make()))
    if NATIVE:
        run(block, x)  # weights that are laid out are not copied
    other = again(block)
    packed_names = [{k for k, v in vars(m).items() if isinstance(v, Prepacked)} for m in block.modules()]
    assert any(packed_names) and not any(isinstance(v, Prepacked) for m in other.modules() for v in vars(m).values())
    assert other.forward.__self__ is other
    torch.testing.assert_close(other(x), block(x), rtol=0, atol=0)


def packed_blocks(backend: AutoBackend) -> int:
    return sum(isinstance(m.forward, Prepacked) for m in backend.model.modules())


def test_backends_pack_for_float32_what_has_a_silu() -> None:
    model = tiny(nc=3).eval()
    assert packed_blocks(AutoBackend(model, dtype=BF16)) > packed_blocks(AutoBackend(model)) > 1
    packed = [m.forward for m in AutoBackend(model).model.modules() if isinstance(m.forward, Prepacked)]
    assert all(p.dtype is torch.float32 and isinstance(p.block.act, nn.SiLU) for p in packed)
    assert not packed_blocks(AutoBackend(model, dtype=BF16, compile=True))
    assert not any(isinstance(m.forward, Prepacked) for m in model.modules())


@pytest.mark.skipif(not torch_utils.has_onednn_operators(), reason="needs torch with oneDNN on x86")
@pytest.mark.parametrize("make", [lambda: Conv(16, 24, 1), lambda: DWConv(16, 16, 5), lambda: RepConv(16, 20, s=2)])
def test_float32_blocks_equal_their_own_forward_and_follow_their_weights(make: Any) -> None:
    block = prepack(folded(make()), torch.float32)
    assert isinstance(block.forward, PrepackedConv)
    for x in (maps(16), maps(16, 20, 7, 1)):
        for _ in range(2):
            with torch.no_grad():
                torch.testing.assert_close(block(x), block.forward.plain(x), rtol=1e-5, atol=1e-6)
                block.conv.weight.mul_(1.5)
    with torch.no_grad():  # where another precision is asked for, the block's own method runs
        assert torch.equal(run(block, x), run(copy.deepcopy(block), x))
        assert block.double()(x.double()).dtype is torch.float64


def test_float32_leaves_other_activations_alone() -> None:
    for make in (lambda: Conv(16, 24, 1, act=nn.ReLU()), lambda: Conv(16, 8, 1, act=False), lambda: nn.Linear(16, 4)):
        assert not isinstance(prepack(folded(make()), torch.float32).forward, Prepacked)
