"""Checks that every published block passes, whatever it computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tests.golden.blocks.fill import fill_, tensor
from ultralytics.nn.modules.conv import fuse_children
from ultralytics.nn.registry import REGISTRY, Plan, RowContext, Scale

Sizes = Sequence[int] | Sequence[Sequence[int]]


def inputs_of(shapes: Sizes, batch: int = 2) -> Any:
    """One map for a shape (C, H, W), a list of maps for several."""
    if isinstance(shapes[0], int):
        return tensor("x", (batch, *shapes))
    return [tensor(f"x{i}", (batch, *s)) for i, s in enumerate(shapes)]  # type: ignore[misc]


def image_of(x: Any, i: int) -> Any:
    """The inputs of one image of a batch."""
    return x[i : i + 1] if isinstance(x, Tensor) else [v[i : i + 1] for v in x]


def check_block(block: nn.Module, shapes: Sizes, out: Sequence[int]) -> None:
    """Output shape, a batch equals its single images, and folding changes nothing but the number of batch norms."""
    block = fill_(block).eval()
    x = inputs_of(shapes)
    with torch.no_grad():
        want = block(x)
        assert want.shape == (2, *out) and want.isfinite().all()
        for i in range(2):
            torch.testing.assert_close(block(image_of(x, i)), want[i : i + 1], rtol=1e-4, atol=1e-5)
        norms = sum(isinstance(m, nn.BatchNorm2d) for m in block.modules())
        net = fuse_children(nn.ModuleList([block]))
        torch.testing.assert_close(net[0](x), want, rtol=1e-4, atol=1e-4)  # type: ignore[index]
    assert norms == 0 or sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) < norms


def parameters_without_gradient(block: nn.Module, shapes: Sizes) -> set[str]:
    """First parts of the names of parameters that a training step does not reach."""
    block = fill_(block).train()
    x = inputs_of(shapes)
    block(x).square().sum().backward()
    return {n for n, p in block.named_parameters() if p.grad is None or not p.grad.any()}


def plan_of(name: str, args: Sequence[Any], channels: int | Sequence[int], **row: Any) -> Plan:
    """What the rule of a registered block makes of a row; `width` scales."""
    entry = REGISTRY.get(name)
    assert entry is not None and entry.rule is not None
    scale = Scale(width=row.pop("width", 1.0), max_channels=row.pop("max_channels", float("inf")))
    inputs = (channels,) if isinstance(channels, int) else tuple(channels)
    return entry.rule(RowContext(inputs, tuple(args), scale=scale, **row))


def parameters_of(name: str, args: Sequence[Any], channels: int | Sequence[int], **row: Any) -> int:
    """Parameters of the block that a row builds."""
    entry = REGISTRY.get(name)
    assert entry is not None
    with torch.device("meta"):
        block = entry.cls(*plan_of(name, args, channels, **row).args)
    return sum(p.numel() for p in block.parameters())
