"""Maps that are enlarged late against the same layers in their usual order."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from tests.nn.cpu.blocks import BF16, NATIVE, as_if_native, folded, maps, native, run
from tests.nn.networks import tiny
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.cpu.late_upsample import (
    LateConcat,
    LateUpsample,
    LazyConcat,
    LazyUpsample,
    SplitInputConv,
    upsample_late,
)
from ultralytics.nn.cpu.prepacked import prepack
from ultralytics.nn.modules.block import RepC3
from ultralytics.nn.modules.conv import Concat, Conv, fuse_children
from ultralytics.nn.modules.csp import C2f

__all__ = ("as_if_native",)  # a fixture that holds for every test here


class Pyramid(nn.Module):
    """Layers as a model has them: each with `f`, the layers that it reads."""

    def __init__(self, *rows: tuple[nn.Module, Any]) -> None:
        super().__init__()
        self.model = nn.Sequential(*(folded(layer) for layer, _ in rows))
        fuse_children(self.model)
        for layer, (_, f) in zip(self.model, rows, strict=True):
            layer.f = f

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Any] = []
        for layer in self.model:
            f = layer.f
            inputs = [kept[j] if kept else x for j in ([f] if isinstance(f, int) else f)]
            kept.append(layer(inputs if isinstance(f, list) else inputs[0]))
        return kept[-1]


def pyramid(reader: nn.Module, order: tuple[int, int] = (0, 2), upsample: Any = None, concat: Any = None) -> Any:
    """A map of 16 channels, one of 24 that was halved and is enlarged again, both joined in an order, and a reader."""
    up = upsample or nn.Upsample(None, 2, "nearest")
    return Pyramid(
        (Conv(16, 16, 1), -1), (Conv(16, 24, 3, 2), 0), (up, -1), (concat or Concat(1), list(order)), (reader, -1)
    )


def late(net: Any) -> bool:
    return any(isinstance(layer.forward, LateUpsample | LateConcat) for layer in net.modules())


@native
@pytest.mark.parametrize("order", [(0, 2), (2, 0)])
@pytest.mark.parametrize("act", [nn.SiLU, nn.ReLU, nn.Identity])
@pytest.mark.parametrize("kind", [RepC3, C2f])
def test_late_maps_give_what_early_ones_give(kind: Any, act: Any, order: tuple[int, int]) -> None:
    reader = kind(40, 16, 1)
    for conv in (reader.cv1, reader.cv2):
        conv.act = act()
    net = pyramid(reader, order)
    x = maps(16, 12, 8)
    with torch.no_grad():
        want = net(x)  # float32
        plain = run(copy.deepcopy(net), x).float()
    assert late(upsample_late(prepack(net)))
    got = run(net, x)
    assert got.dtype is BF16 and got.is_contiguous(memory_format=torch.channels_last)
    assert (got.float() - want).abs().max() <= 2 * (plain - want).abs().max()
    for size in ((6, 10), (12, 8)):  # other sizes, and back
        x = maps(16, *size)
        torch.testing.assert_close(run(net, x).float(), run(copy.deepcopy(net), x).float(), rtol=0.03, atol=0.03)


@native
def test_the_small_map_goes_through_the_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    forward = SplitInputConv.__call__
    monkeypatch.setattr(SplitInputConv, "__call__", lambda self, x: seen.append(x) or forward(self, x))
    run(upsample_late(prepack(pyramid(RepC3(40, 16, 1)))), maps(16, 12, 8))
    assert [type(x) for x in seen] == [LazyConcat, LazyConcat]
    big, small = seen[0].parts
    assert big.shape == (2, 16, 12, 8) and isinstance(small, LazyUpsample)
    assert small.x.shape == (2, 24, 6, 4) and small.factor == 2


@native
def test_parts_follow_the_weights() -> None:
    net, x = upsample_late(prepack(pyramid(C2f(40, 16, 1)))), maps(16, 12, 8)
    before = run(net, x)
    with torch.no_grad():
        net.model[-1].cv1.conv.weight[:, 20:] *= -1
    after = run(net, x)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after.float(), run(copy.deepcopy(net), x).float(), rtol=0.03, atol=0.03)


@pytest.mark.parametrize("how", ["float32", "gradient", "hook"])
def test_maps_are_enlarged_as_usual(how: str) -> None:
    net, x, seen = pyramid(RepC3(40, 16, 1)), maps(16, 12, 8), []
    want = net(x) if how != "hook" else run(net, x)
    upsample_late(prepack(net))
    if how == "hook":
        net.model[2].register_forward_hook(lambda *args: seen.append(args[-1].shape))
        if NATIVE:
            torch.testing.assert_close(run(net, x), want, rtol=0.03, atol=0.03)
            assert seen == [(2, 24, 12, 8)]
    elif how == "gradient":
        with torch.autocast("cpu", BF16):
            net(x.requires_grad_()).sum().backward()
        assert x.grad is not None and bool(x.grad.any())
    else:
        with torch.no_grad():
            torch.testing.assert_close(net(x), want, rtol=0, atol=0)


@native
@pytest.mark.parametrize("part", ["", "conv", "act"])
def test_hooks_on_the_convolutions_behind_see_whole_maps(part: str) -> None:
    net, x = upsample_late(prepack(pyramid(RepC3(40, 16, 1)))), maps(16, 12, 8)
    want, seen = run(net, x), []
    conv = net.model[-1].cv1
    module = getattr(conv, part) if part else conv
    module.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    torch.testing.assert_close(run(net, x), want, rtol=0.03, atol=0.03)
    assert seen == [(2, 16 if part == "act" else 40, 12, 8)]


@native
@pytest.mark.parametrize("count", [1, 3])
def test_other_numbers_of_maps_are_joined_first(count: int) -> None:
    reader = RepC3(24 if count == 1 else 56, 16, 1)
    net = pyramid(reader)
    net.model[3].f = [2] if count == 1 else [0, 2, 0]
    want = run(net, maps(16, 12, 8).fill_(0.5))
    assert late(upsample_late(prepack(net)))
    torch.testing.assert_close(run(net, maps(16, 12, 8).fill_(0.5)), want, rtol=0.03, atol=0.03)


@native
@pytest.mark.parametrize("size", [(11, 8), (12, 7), (1, 1)])
@pytest.mark.parametrize("padding", [1, 0], ids=["too large", "too small"])
def test_maps_of_different_size_are_refused_as_usual(size: tuple[int, int], padding: int) -> None:
    """The sum of both convolutions would read beside a map that is smaller, and give numbers."""
    net, x = pyramid(RepC3(40, 16, 1)), maps(16, *(side + 4 * (1 - padding) for side in size))
    net.model[1].conv.padding = (padding, padding)
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        run(net, x)
    assert late(upsample_late(prepack(net)))
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        run(net, x)


@pytest.mark.parametrize(
    "net",
    [
        pyramid(RepC3(40, 16, 1), upsample=nn.Upsample(None, 2, "bilinear")),
        pyramid(RepC3(40, 16, 1), upsample=nn.Upsample((12, 8))),
        pyramid(RepC3(40, 16, 1), upsample=nn.Upsample(None, (2, 2))),
        pyramid(RepC3(16, 16, 1), concat=Concat(2)),
        pyramid(Conv(40, 16, 1)),  # not a reader that is known
        nn.Sequential(nn.Upsample(None, 2, "nearest"), Conv(8, 8)),
    ],
    ids=["bilinear", "to a size", "two factors", "rows", "reader", "no model"],
)
def test_other_layers_are_left_alone(net: Any) -> None:
    assert not late(upsample_late(prepack(net)))


def test_a_map_that_others_read_too_is_left_alone() -> None:
    net = pyramid(RepC3(40, 16, 1))
    net.model.append(Concat(1))
    for f in ([2, 4], [3, 4]):
        net.model[-1].f = f
        assert not late(upsample_late(prepack(copy.deepcopy(net))))
    net.model[-1].f = [0, 4]
    assert late(upsample_late(prepack(net)))


class OwnReader(nn.Module):
    """A user's block that opts in: one 1x1 convolution reads the input, and nothing else does."""

    late_upsample: ClassVar[tuple[str, ...]] = ("squeeze",)

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.squeeze = Conv(c1, c2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        return -self.squeeze(x)


class OtherForward(RepC3):
    """A subclass that also uses its input elsewhere, and so must not inherit the attribute."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        return super().forward(x) + x.mean()


@native
def test_blocks_opt_in_by_an_attribute() -> None:
    net, x = pyramid(OwnReader(40, 16)), maps(16, 12, 8)
    want = run(net, x)
    assert late(upsample_late(prepack(net)))
    torch.testing.assert_close(run(net, x), want, rtol=0.02, atol=0.02)
    assert not late(upsample_late(prepack(pyramid(OtherForward(40, 16, 1)))))


def test_unpacked_networks_are_left_alone() -> None:
    assert not late(upsample_late(pyramid(RepC3(40, 16, 1))))


def test_backends_enlarge_late_and_copies_do_not() -> None:
    backend = AutoBackend(tiny(nc=3).eval(), dtype=BF16)
    assert late(backend.model)
    assert not late(copy.deepcopy(backend.model))
