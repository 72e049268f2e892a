"""Counting the floating-point operations of a forward pass.

A multiply-add counts as two. Counted: convolutions, linear layers, matrix products, attention (fused, and the
framework's one-call multi-head kernel), and bilinear sampling, which is the work of deformable attention. Element-wise
operations, normalisation and activations are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ultralytics.utils.torch_tools.copying import copy_network
from ultralytics.utils.torch_tools.meta import MetaShortcuts

_Shape = Sequence[int]
FlopRule = Callable[..., int]

_LERP_FLOPS = 8  # 4 corners, a multiply-add each


def _sdpa(q: _Shape, k: _Shape, v: _Shape, *args: object, out_shape: object = None, **kwargs: object) -> int:
    """q (B, M, N, D), k (B, M, S, D), v (B, M, S, E): the products q k^T and p v."""
    batch, n, d, s, e = math.prod(q[:-2]), q[-2], q[-1], k[-2], v[-1]
    return 2 * batch * n * s * (d + e)


def _grid_sample(x: _Shape, grid: _Shape, *args: object, out_shape: object = None, **kwargs: object) -> int:
    """x (B, C, H, W), grid (B, h, w, 2): each output value blends the four nearest inputs."""
    return _LERP_FLOPS * x[1] * math.prod(grid[:-1])


def _native_mha(
    q: _Shape, k: _Shape, v: _Shape, dim: int, *args: object, out_shape: object = None, **kwargs: object
) -> int:
    """q (B, N, D), k and v (B, S, D): input and output projections, then attention over all heads."""
    batch, n, s = q[0], q[1], k[1]
    project = 2 * batch * dim * dim * (2 * n + 2 * s)
    return project + 2 * batch * n * s * 2 * dim


def _encoder_layer(x: _Shape, dim: int, heads: int, *args: Any, out_shape: object = None, **kwargs: object) -> int:
    """x (B, N, D): self-attention and the two linear layers of the feed-forward part."""
    hidden = args[11][0]  # ffn_weight_1 (hidden, D)
    return _native_mha(x, x, x, dim) + 2 * x[0] * x[1] * 2 * dim * hidden


def _rules() -> dict[Any, FlopRule]:
    names: dict[str, FlopRule] = {
        "_scaled_dot_product_flash_attention_for_cpu": _sdpa,
        "_scaled_dot_product_fused_attention_overrideable": _sdpa,
        "grid_sampler_2d": _grid_sample,
        "cudnn_grid_sampler": _grid_sample,
        "_native_multi_head_attention": _native_mha,
        "_transformer_encoder_layer_fwd": _encoder_layer,
    }
    return {getattr(torch.ops.aten, n): rule for n, rule in names.items() if hasattr(torch.ops.aten, n)}


@torch.no_grad()
def count_flops(model: nn.Module, *inputs: torch.Tensor) -> tuple[int, dict[str, int]]:
    """Run a module and return its FLOPs, in total and by the name of each submodule (`""` is the module itself)."""
    from torch.utils.flop_counter import FlopCounterMode  # pulls in much of torch that a training run does not need

    counter = FlopCounterMode(display=False, custom_mapping=_rules())
    with MetaShortcuts(), counter:  # the counter is asked first
        model(*inputs)
    root = type(model).__name__
    by_name = {n.removeprefix(root).lstrip("."): sum(ops.values()) for n, ops in counter.get_flop_counts().items()}
    return counter.get_total_flops(), by_name


def model_flops(model: nn.Module, imgsz: int | Sequence[int] = 640, ch: int = 3) -> tuple[int, dict[str, int]]:
    """FLOPs of a forward pass in eval mode on one image of `imgsz` (side, or height and width, px), as `count_flops`.

    Runs a copy on the meta device, which costs no memory and little time; a model with an operation that needs real
    numbers is run for real. The model itself is not changed.
    """
    h, w = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    probe = torch.zeros(1, ch, h, w, device="meta")
    try:
        return count_flops(copy_network(model).to("meta").float().eval(), probe)
    except (NotImplementedError, RuntimeError):
        clone = copy_network(model).float().eval()
        device = next(clone.parameters()).device
        return count_flops(clone, torch.zeros(probe.shape, device=device))
