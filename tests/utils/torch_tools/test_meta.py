"""The shortcuts give the shapes and dtypes that torch's own operators give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.utils.torch_tools.meta import MetaShortcuts


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("sizes", [(0, 4, 5, 6, 2, 3), (2, 4, 5, 6, 7, 3)], ids=str)
def test_sampling(sizes: tuple[int, ...], dtype: torch.dtype) -> None:
    b, c, h, w, out_h, out_w = sizes
    x = torch.empty(b, c, h, w, device="meta", dtype=dtype)
    grid = torch.empty(b, out_h, out_w, 2, device="meta", dtype=dtype)
    want = F.grid_sample(x, grid, align_corners=False)
    with MetaShortcuts():
        got = F.grid_sample(x, grid, align_corners=False)
    assert (got.shape, got.dtype, got.device) == (want.shape, want.dtype, want.device)


CALLS: dict[str, Callable[[Tensor], Any]] = {
    "linear": lambda x: nn.Linear(6, 3)(x),
    "linear on rows": lambda x: nn.Linear(6, 3)(x.flatten(0, 2)),
    "linear without bias": lambda x: nn.Linear(6, 3, bias=False)(x),
    "layer norm": lambda x: nn.LayerNorm(6)(x),
    "layer norm of two axes": lambda x: torch.native_layer_norm(x, [5, 6], None, None, 1e-5),
    "batch norm": lambda x: nn.BatchNorm2d(4).eval()(x),
    "batch norm in training": lambda x: nn.BatchNorm2d(4)(x),
    "relu": torch.relu,
}


def described(out: Any) -> list[tuple[Any, ...]]:
    return [(x.shape, x.dtype, x.device) for x in (out if isinstance(out, tuple) else (out,))]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("shape", [(2, 4, 5, 6), (0, 4, 5, 6)], ids=str)
def test_operators(shape: tuple[int, ...], call: Callable[[Tensor], Any]) -> None:
    with torch.device("meta"), torch.no_grad():
        x = torch.empty(shape)
        want = described(call(x))
        with MetaShortcuts():
            assert described(call(x)) == want


@pytest.mark.parametrize(
    "call",
    [
        lambda x: nn.Linear(7, 3)(x),
        lambda x: torch.addmm(torch.ones(4), x[0, 0], torch.ones(6, 3)),
        lambda x: F.layer_norm(x, [5]),
        lambda x: F.layer_norm(x, [6], torch.ones(5)),
        lambda x: F.batch_norm(x, torch.ones(3), torch.ones(3)),
        lambda x: F.batch_norm(x, torch.ones(4), torch.ones(4), torch.ones(3)),
    ],
)
def test_what_does_not_fit_is_refused(call: Callable[[Tensor], Any]) -> None:
    with torch.device("meta"), torch.no_grad(), MetaShortcuts(), pytest.raises(RuntimeError):
        call(torch.empty(2, 4, 5, 6))


def test_values_are_left_alone() -> None:
    x, grid = torch.rand(1, 2, 4, 4), torch.rand(1, 3, 3, 2)
    want = F.grid_sample(x, grid, align_corners=False)
    with MetaShortcuts():
        assert torch.equal(F.grid_sample(x, grid, align_corners=False), want)
