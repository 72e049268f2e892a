"""Sampling of multi-scale deformable attention (Deformable DETR, arXiv 2010.04159, section 4.1).

Shapes: B batch, Q queries, N tokens of all levels, M heads, L levels, P points, d width of one head, D hidden width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ultralytics.nn.modules.graph_capture import is_exporting
from ultralytics.utils.ops import at_least_float32
from ultralytics.utils.torch_tools.reproducible import needs_one_order, sum_rows_in_order

__all__ = (
    "LevelShapes",
    "PointReading",
    "multi_scale_deformable_attn_pytorch",
    "sample_and_project",
    "should_project_after_sampling",
    "sum_rows",
)

LevelShapes = Sequence[Sequence[int]]  # (H, W) of each level

SERIAL_THREADS = 4
"""Threads up to which the serial sparse product of the sampling's gradient is taken to be faster than torch's own."""


class PointReading(NamedTuple):
    """How attention reads a sampling point of a map.

    Fields:
        discrete: Read the cell that the point lies in, the nearest one outside of the map, instead of interpolating;
            offsets then get no gradient.
        rounding: Added to the place of the point, in cells, before `discrete` cuts it to a cell: 0.5 is what published
            RT-DETRv2 weights were trained with (arXiv 2407.17140, section 3.1).
    """

    discrete: bool = False
    rounding: float = 0.0


INTERPOLATED = PointReading()


def multi_scale_deformable_attn_pytorch(
    value: Tensor,
    value_spatial_shapes: LevelShapes,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    points: Sequence[int] | None = None,
) -> Tensor:
    """Sample each level bilinearly at given points and sum the samples by weight (arXiv 2010.04159, section 4.1).

    Args:
        value: (B, N, M, d), the levels one after another, each row-major; N is the sum of H*W.
        value_spatial_shapes: (H, W) of each level.
        sampling_locations: (B, Q, M, L*P, 2), x and y in 0..1 of the level, level-major. Outside counts as zero.
        attention_weights: (B, Q, M, L*P).
        points: Points of each level, where levels differ in them (D-FINE, arXiv 2410.13842); their sum is L*P above.

    Returns:
        (B, Q, M*d) in the dtype of `value`.
    """
    if (value.device.type == "cpu" or needs_one_order(value)) and not is_exporting():
        return _sample_by_gather(value, value_spatial_shapes, sampling_locations, attention_weights, points)
    return _sample_by_grid(value, value_spatial_shapes, sampling_locations, attention_weights, points)


def _points_per_level(shapes: LevelShapes, locations: Tensor, points: Sequence[int] | None) -> Sequence[int]:
    """Return the points of each level: as given, or the same number for all levels."""
    return [locations.shape[3] // len(shapes)] * len(shapes) if points is None else points


def _sample_by_grid(
    value: Tensor, shapes: LevelShapes, locations: Tensor, weights: Tensor, points: Sequence[int] | None = None
) -> Tensor:
    """One `grid_sample` per level: for devices other than the CPU where any order will do, and for export."""
    heads = value.shape[2]
    # one transposition for all levels; float32 because a bfloat16 grid would be off by whole cells
    maps = at_least_float32(value).permute(0, 2, 3, 1).flatten(0, 1)  # (B*M, d, N)
    grid = (2 * at_least_float32(locations) - 1).transpose(1, 2).flatten(0, 1)  # (B*M, Q, L*P, 2)
    corner_weights = at_least_float32(weights).transpose(1, 2).flatten(0, 1)[:, None]  # (B*M, 1, Q, L*P)
    out = maps.new_zeros(())
    start = first = 0
    for count, (h, w) in zip(_points_per_level(shapes, locations, points), shapes, strict=True):
        part = slice(first, first + count)
        level_map = maps[..., start : start + h * w].unflatten(-1, (h, w))  # (B*M, d, H, W)
        level_grid = grid[:, :, part].to(maps.dtype)
        sampled = F.grid_sample(level_map, level_grid, padding_mode="zeros", align_corners=False)  # (B*M, d, Q, P)
        out = out + (sampled * corner_weights[..., part]).sum(-1)  # (B*M, d, Q)
        start += h * w
        first += count
    return out.unflatten(0, (-1, heads)).flatten(1, 2).transpose(1, 2).to(value.dtype)  # (B, Q, M*d)


def _sample_by_gather(
    value: Tensor, shapes: LevelShapes, locations: Tensor, weights: Tensor, points: Sequence[int] | None = None
) -> Tensor:
    """One weighted sum of table rows for all levels, points and corners.

    Each token of a head is a row of `value` as it lies in memory, so nothing is transposed, and only rows that count
    are read. On the CPU 2 to 4 times as fast as `_sample_by_grid`, and 1.4 times with its gradient.
    """
    points = _points_per_level(shapes, locations, points)
    index, corner_weights = _corners(value, shapes, locations, weights, points)
    table = value.reshape(-1, value.shape[3])  # (B*N*M, d)
    if table.requires_grad and torch.is_grad_enabled():
        table = at_least_float32(table)  # many small gradients meet in one row
    sums = sum_rows(table, index, corner_weights.to(table.dtype))  # (B*Q*M, d)
    b, q, heads, _ = weights.shape
    return sums.view(b, q, heads * value.shape[3]).to(value.dtype)  # (B, Q, M*d)


def should_project_after_sampling(tokens: Tensor, weights: Tensor) -> bool:
    """Return whether projecting what is sampled of tokens (B, N, D) with weights (B, Q, M, L*P) is the faster order.

    Only in inference on a CPU, and where tokens are many: measured with 1 and 2 threads, 1 and 8 images of 160 to
    640 px, D of 128 and 256, 100 and 300 queries, float32 and bfloat16, it takes 0.09 to 0.87 of the time from here on.
    """
    if torch.is_grad_enabled() or tokens.device.type != "cpu" or is_exporting():
        return False
    rows = 4 * math.prod(weights.shape[1:])  # that are read of an image
    return tokens.shape[1] * tokens.shape[2] >= 5 * rows


def sample_and_project(
    tokens: Tensor,
    shapes: LevelShapes,
    locations: Tensor,
    weights: Tensor,
    projection: nn.Linear,
    points: Sequence[int] | None = None,
) -> Tensor:
    """Return what `multi_scale_deformable_attn_pytorch` gives of projected tokens, without projecting all of them.

    A sum of samples is linear, so head m may read whole tokens first; its part of the projection is then applied to Q
    sums instead of N tokens, and the bias to the sum of the weights that lie inside of the map.

    Args:
        tokens: (B, N, D), the levels one after another.
        shapes: (H, W) of each level.
        locations: (B, Q, M, L*P, 2) in 0..1.
        weights: (B, Q, M, L*P).
        projection: D -> M*d, with a bias.
        points: Points of each level, where levels differ in them.

    Returns:
        (B, Q, M*d).
    """
    b, q, heads, _ = weights.shape
    points = _points_per_level(shapes, locations, points)
    index, corner_weights = _corners(tokens[:, :, None], shapes, locations, weights, points)
    table = tokens.reshape(-1, tokens.shape[2])  # (B*N, D)
    sums = sum_rows(table, index, corner_weights.to(table.dtype))  # (B*Q*M, D)
    sums = sums.view(b * q, heads, table.shape[1]).transpose(0, 1)  # (M, B*Q, D)
    per_head = projection.weight.unflatten(0, (heads, -1))  # (M, d, D)
    inside = corner_weights.sum(-1).view(b, q, heads, 1)
    bias = inside.to(sums.dtype) * projection.bias.to(sums.dtype).view(heads, -1)  # (B, Q, M, d)
    projected = torch.bmm(sums, per_head.transpose(1, 2).to(sums.dtype))  # (M, B*Q, d)
    return (projected.transpose(0, 1).unflatten(0, (b, q)) + bias).flatten(2)  # (B, Q, M*d)


def _corners(
    value: Tensor, shapes: LevelShapes, locations: Tensor, weights: Tensor, points: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return which rows each sum reads and their weights, both (B*Q*M, 4*L*P), four corners of each point.

    The rows are of `value` (B, N, M, d) as a table (B*N*M, d); where M is 1, all heads read the same tokens. The cells
    are two by two inside of the map, and a cell's weight falls from 1 at its centre to 0 a cell further, so that cells
    beside a point that lies outside get their part, or 0.
    """
    b, n, heads, _ = value.shape
    per_axis = at_least_float32(locations).movedim(-1, 0).contiguous()  # (2, B, Q, M, L*P): long rows for the loops
    each = [(w, h) for count, (h, w) in zip(points, shapes, strict=True) for _ in range(count)]  # of a point
    sizes = torch.tensor(each, dtype=per_axis.dtype).T.contiguous().to(value.device, non_blocking=True)
    sizes = sizes[:, None, None, None]  # (2, 1, 1, 1, L*P)
    place = (per_axis * sizes).sub_(0.5)  # in cells, from the centre of the first
    cell = place.detach().floor().minimum(sizes - 2).clamp_(min=0)
    cell.nan_to_num_(0.0)  # a NaN passes on in the weights, not as an index
    step = place - cell
    near, far = _BilinearWeights.apply(step)
    if any(1 in shape for shape in shapes):
        far = far * (sizes > 1)  # a map of one line has no second
    first, line, corners = (t.to(value.device, non_blocking=True) for t in _rows(shapes, points, b, n, heads))
    x, y = cell.to(first.dtype)
    index = (y * line).add_(x, alpha=heads).add_(first).unsqueeze(3) + corners  # (B, Q, M, 4, L*P)
    (left, upper), (right, lower) = near, far
    weights = weights.to(left.dtype)
    upper, lower = upper * weights, lower * weights
    corner_weights = torch.stack([upper * left, upper * right, lower * left, lower * right], 3)
    return index.flatten(3).flatten(0, 2), corner_weights.flatten(3).flatten(0, 2)


class _BilinearWeights(torch.autograd.Function):
    """Bilinear weights of a cell and of the next, for a point `step` cells behind the centre of the first."""

    @staticmethod
    def forward(ctx: Any, step: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(step)
        return (1 - step.abs()).relu_(), (1 - (step - 1).abs()).relu_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, near: Tensor, far: Tensor) -> Tensor:
        (step,) = ctx.saved_tensors
        cell = step.floor()  # at a centre the gradient to its right counts
        gradient = (far - near).mul_(cell == 0)
        return gradient.addcmul_(near, cell == -1).sub_(far * (cell == 1))


def sum_rows(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Return for each sum the weighted sum of rows of a table.

    Args:
        table: (R, d), float32 or float64 where a gradient is wanted.
        index: (G, K), rows of each sum, integers.
        weight: (G, K), as the table.

    Returns:
        (G, d).
    """
    if table.device.type != "cpu":
        return sum_rows_in_order(table, index, weight)
    with_gradient = table.requires_grad and torch.is_grad_enabled()
    if not with_gradient or torch.get_num_threads() > SERIAL_THREADS:
        return F.embedding_bag(index, table, mode="sum", per_sample_weights=weight)
    sums = F.embedding_bag(index, table.detach(), mode="sum", per_sample_weights=weight)
    joined: Tensor = _GradientToTable.apply(sums, table, index, weight.detach())
    return joined


class _GradientToTable(torch.autograd.Function):
    """Gives sums (G, d) back as they are, and their gradient to the table (R, d) as well: one sparse product.

    In scipy it takes a fifth of the time of `embedding_bag`'s own (one thread: 8 ms against 47 for 9,600 sums of 48 of
    67,200 rows of 32), which however uses all threads.
    """

    @staticmethod
    def forward(ctx: Any, sums: Tensor, table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(index, weight)
        ctx.rows = len(table)
        return sums.view_as(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        from scipy.sparse import csc_array  # takes a while to import

        index, weight = ctx.saved_tensors
        ends = np.arange(0, index.numel() + 1, index.shape[1], dtype=np.int64)
        parts = (weight.flatten().numpy(), index.flatten().numpy(), ends)  # sums are the columns
        spread = csc_array(parts, shape=(ctx.rows, len(index)))
        return grad, torch.from_numpy(spread @ grad.numpy()), None, None


def _rows(shapes: LevelShapes, points: Sequence[int], b: int, n: int, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return how to number the rows of a table (B*N*M, d).

    The first row of each image and head, (B, 1, M, 1); the rows from one line of a map to the next, (L*P,); and how far
    from a cell's row the four corners lie, the start of the map included, (4, L*P).
    """
    kind = torch.int32 if b * n * heads < 2**31 else torch.int64
    lines, corners, start = [], [], 0
    for count, (h, w) in zip(points, shapes, strict=True):
        right, below = min(w - 1, 1), min(h - 1, 1) * w
        lines += [w * heads] * count
        corners += [[(start + step) * heads for step in (0, right, below, below + right)]] * count
        start += h * w
    first = torch.arange(b)[:, None, None, None] * (n * heads) + torch.arange(heads)[:, None]  # (B, 1, M, 1)
    return first.to(kind), torch.tensor(lines, dtype=kind), torch.tensor(corners, dtype=kind).T.contiguous()
