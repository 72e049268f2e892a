"""Helpers of the transformer modules: initialisation, logits, sampling for deformable attention.

Shapes: B batch, Q queries, N tokens of all levels, M heads, L levels, P points, d width of one head.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = (
    "add_clamped",
    "at_least_float32",
    "bias_init_with_prob",
    "inverse_sigmoid",
    "linear_init",
    "multi_scale_deformable_attn_pytorch",
)


def _get_clones(module: nn.Module, n: int) -> nn.ModuleList:
    """Return `n` independent deep copies of a module."""
    return nn.ModuleList(copy.deepcopy(module) for _ in range(n))


def bias_init_with_prob(prior_prob: float = 0.01) -> float:
    """Return the bias whose sigmoid is `prior_prob` (focal loss, arXiv 1708.02002, section 3.3).

    >>> round(bias_init_with_prob(0.01), 4)
    -4.5951
    """
    return -math.log((1 - prior_prob) / prior_prob)


def linear_init(module: nn.Linear) -> None:
    """Draw weight and bias of a linear layer uniformly within 1 / sqrt(output width), in place."""
    bound = 1 / math.sqrt(module.weight.shape[0])
    nn.init.uniform_(module.weight, -bound, bound)
    if module.bias is not None:
        nn.init.uniform_(module.bias, -bound, bound)


def at_least_float32(x: Tensor) -> Tensor:
    """Return half and bfloat16 tensors as float32, others as they are: for coordinates under mixed precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def add_clamped(x: Tensor, branch: Tensor) -> Tensor:
    """Return x + branch, kept finite where float16 would overflow (above 65504): the NaN source of fp16 decoders."""
    if branch.dtype == torch.float16:
        branch = branch.clamp(-65504.0, 65504.0)
    out = x + branch
    return out.clamp(-65504.0, 65504.0) if out.dtype == torch.float16 else out


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Return the logit of values in 0..1, finite at both ends; at least float32, since bfloat16 has no numbers near 1.

    Values outside 0..1 are clamped; both x and 1 - x are held at `eps` or more.
    """
    x = at_least_float32(x).clamp(0, 1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


def multi_scale_deformable_attn_pytorch(
    value: Tensor,
    value_spatial_shapes: Sequence[Sequence[int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Sample each level bilinearly at given points and sum the samples by weight (arXiv 2010.04159, section 4.1).

    Args:
        value: [B, N, M, d], the levels one after another, each row-major; N is the sum of H*W.
        value_spatial_shapes: (H, W) of each level.
        sampling_locations: [B, Q, M, L*P, 2], x and y in 0..1 of the level, level-major. Outside counts as zero.
        attention_weights: [B, Q, M, L*P].

    Returns:
        [B, Q, M*d] in the dtype of `value`.
    """
    b, n, heads, d = value.shape
    q, points = sampling_locations.shape[1], sampling_locations.shape[3] // len(value_spatial_shapes)
    dtype = value.dtype
    # one transposition for all levels; float32 because a bfloat16 grid would be off by whole pixels
    maps = at_least_float32(value).permute(0, 2, 3, 1).reshape(b * heads, d, n)  # [B*M, d, N]
    grid = (2 * at_least_float32(sampling_locations) - 1).transpose(1, 2).flatten(0, 1)  # [B*M, Q, L*P, 2]
    weights = at_least_float32(attention_weights).transpose(1, 2).reshape(b * heads, 1, q, -1)  # [B*M, 1, Q, L*P]
    out = maps.new_zeros(())
    start = 0
    for level, (h, w) in enumerate(value_spatial_shapes):
        part = slice(level * points, (level + 1) * points)
        level_map = maps[..., start : start + h * w].unflatten(-1, (h, w))  # [B*M, d, H, W]
        sampled = F.grid_sample(
            level_map, grid[:, :, part].to(maps.dtype), mode="bilinear", padding_mode="zeros", align_corners=False
        )  # [B*M, d, Q, P]
        out = out + (sampled * weights[..., part]).sum(-1)  # [B*M, d, Q]
        start += h * w
    return out.view(b, heads * d, q).transpose(1, 2).to(dtype)  # [B, Q, M*d]
