"""Blocks and maps for the tests of the CPU fast path, and the conditions under which it runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ultralytics.nn.cpu import optimize
from ultralytics.utils import torch_utils
from ultralytics.utils.torch_utils import native_bf16

BF16 = torch.bfloat16
NATIVE = native_bf16("cpu") and torch_utils.has_onednn_operators()
native = pytest.mark.skipif(not NATIVE, reason="needs an x86 CPU with bfloat16 and torch with oneDNN")


@pytest.fixture(autouse=True)
def as_if_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which blocks are chosen is decided equally everywhere; what they compute is tested where it can run."""
    monkeypatch.setattr(torch_utils, "_cpu_bf16", lambda: True)
    monkeypatch.setattr(optimize, "has_onednn_operators", lambda: True)


def folded(block: Any) -> Any:
    """The block with other than fresh statistics, in eval mode, folded and channels last."""
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, std=0.3)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.normal_(norm.bias, std=0.3)
    block = block.eval()
    return (block.fuse() if hasattr(block, "fuse") else block).to(memory_format=torch.channels_last)


def maps(c: int, h: int = 12, w: int = 9, b: int = 2) -> Tensor:
    return torch.randn(b, c, h, w).to(memory_format=torch.channels_last)


def run(block: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad(), torch.autocast("cpu", BF16):
        return block(x)
