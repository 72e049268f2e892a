"""Resampling whose gradient adds in one order, for training on a GPU with `deterministic=True`.

On CUDA, torch has no reproducible gradient of `grid_sample`, of bilinear `interpolate` and of adaptive pooling
(documentation of `torch.use_deterministic_algorithms`). Here they are written with sums of rows and matrix products,
which have one; without deterministic algorithms, without a gradient and on a CPU torch's own are called.

Shapes: B batch, C channels, H x W map, H' x W' result, G sums, K rows of each sum, R rows of a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ultralytics.utils.ops import at_least_float32

__all__ = (
    "ReflectConv2d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "grid_sample",
    "interpolate_bilinear",
    "needs_one_order",
    "reflection_pad2d",
    "sum_rows_in_order",
    "window_weights",
)


def needs_one_order(x: Tensor) -> bool:
    """Whether the gradient of an operation on `x` must add in one order, and torch's own operations may not."""
    if x.device.type in {"cpu", "meta"} or not torch.is_grad_enabled():
        return False
    return torch.are_deterministic_algorithms_enabled()


def sum_rows_in_order(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Return weighted sums of rows of a table; the gradient of a row adds in one order.

    Nothing of the size (G, K, C) is kept for the gradient.

    Args:
        table: (R, C), floating point.
        index: (G, K), rows of each sum, int32 or int64.
        weight: (G, K), in the dtype of the table.

    Returns:
        (G, C).
    """
    sums: Tensor = _RowsInOrder.apply(table, index, weight)
    return sums


class _Saved(Protocol):
    """What an `autograd.Function` hands from forward to backward."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep tensors until backward."""


class _RowsInOrder(torch.autograd.Function):
    """`embedding_bag` with weights; its gradient adds column by column of the index with `index_add_`."""

    @staticmethod
    def forward(ctx: _Saved, table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(table, index, weight)
        first = torch.arange(0, index.numel(), index.shape[1], device=index.device, dtype=index.dtype)  # (G,)
        flat, weights = index.flatten(), weight.flatten()
        return F.embedding_bag(flat, table, first, mode="sum", per_sample_weights=weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Saved, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        table, index, weight = ctx.saved_tensors
        to_table, to_weight = ctx.needs_input_grad[0], ctx.needs_input_grad[2]
        table_grad = torch.zeros_like(table) if to_table else None
        parts = []
        for k in range(index.shape[1]):
            if table_grad is not None:
                # CUDA's sum in one order sorts the index as int64
                table_grad.index_add_(0, index[:, k].long(), grad * weight[:, k, None])
            if to_weight:
                parts.append((table.index_select(0, index[:, k]) * grad).sum(1))
        return table_grad, None, torch.stack(parts, 1) if to_weight else None


def grid_sample(x: Tensor, grid: Tensor, padding_mode: str = "zeros", align_corners: bool = False) -> Tensor:
    """`torch.nn.functional.grid_sample`, bilinear, with a gradient of one order where that is asked for.

    Args:
        x: (B, C, H, W).
        grid: (B, H', W', 2), x and y in -1..1.
        padding_mode: `zeros` or `border`.
        align_corners: Whether -1 and 1 are the centres of the outer cells instead of their outer edges.

    Returns:
        (B, C, H', W').
    """
    if needs_one_order(x):
        return grid_sample_in_order(x, grid, padding_mode, align_corners)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode=padding_mode, align_corners=align_corners)


def grid_sample_in_order(x: Tensor, grid: Tensor, padding_mode: str = "zeros", align_corners: bool = False) -> Tensor:
    """As `grid_sample`, always with sums of rows; NaN in the grid stays NaN in the result."""
    b, c, h, w = x.shape
    across = _two_cells(grid[..., 0], w, padding_mode, align_corners)
    down = _two_cells(grid[..., 1], h, padding_mode, align_corners)
    image = torch.arange(b, device=x.device).view(b, 1, 1) * (h * w)  # (B, 1, 1)
    pairs = [(image + y * w + x_, wy * wx) for y, wy in down for x_, wx in across]  # both (B, H', W')
    index, weight = (torch.stack(part, -1).flatten(0, 2) for part in zip(*pairs, strict=True))  # (B*H'*W', 4)
    table = x.permute(0, 2, 3, 1).reshape(-1, c)  # (B*H*W, C)
    sums = sum_rows_in_order(table, index, weight.to(table.dtype))
    return sums.view(b, *grid.shape[1:3], c).permute(0, 3, 1, 2)  # (B, C, H', W')


def _two_cells(line: Tensor, cells: int, padding_mode: str, align_corners: bool) -> list[tuple[Tensor, Tensor]]:
    """Index and weight of the two cells around each coordinate in -1..1 of a line of cells; outside weighs nothing."""
    place = (line + 1) / 2 * (cells - 1) if align_corners else ((line + 1) * cells - 1) / 2
    if padding_mode == "border":
        place = place.clamp(0, cells - 1)
    first = place.detach().floor()
    part = place - first
    found = []
    for cell, weight in ((first, 1 - part), (first + 1, part)):
        outside = (cell < 0) | (cell >= cells)  # a NaN is not, and stays one
        found.append((cell.nan_to_num(0.0).clamp(0, cells - 1).long(), weight.masked_fill(outside, 0.0)))
    return found


def interpolate_bilinear(x: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """`torch.nn.functional.interpolate(mode="bilinear")`, with a gradient of one order where that is asked for.

    Args:
        x: (B, C, H, W).
        size: (H', W').
        align_corners: Whether the centres of the outer cells coincide, instead of their outer edges.

    Returns:
        (B, C, H', W').
    """
    if needs_one_order(x):
        return _in_two_products(x, [_line_weights(n, m, align_corners) for n, m in zip(x.shape[2:], size, strict=True)])
    return F.interpolate(x, size=list(size), mode="bilinear", align_corners=align_corners)


def _line_weights(cells: int, wanted: int, align_corners: bool) -> Tensor:
    """(wanted, cells): the weight of each cell in each place of a line that is resized linearly."""
    if align_corners:
        place = torch.arange(wanted) * ((cells - 1) / max(wanted - 1, 1))
    else:
        place = ((torch.arange(wanted) + 0.5) * (cells / wanted) - 0.5).clamp(min=0)
    distance = place.clamp(max=cells - 1)[:, None] - torch.arange(cells)
    return (1 - distance.abs()).clamp(min=0)


def adaptive_avg_pool2d(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`torch.nn.functional.adaptive_avg_pool2d`, with a gradient of one order where that is asked for.

    Args:
        x: (B, C, H, W).
        size: (H', W').

    Returns:
        (B, C, H', W').
    """
    if needs_one_order(x) and size != (1, 1):  # one cell is a mean, which is reproducible
        return _in_two_products(x, [window_weights(n, m) for n, m in zip(x.shape[2:], size, strict=True)])
    return F.adaptive_avg_pool2d(x, size)


def window_weights(cells: int, wanted: int) -> Tensor:
    """(wanted, cells): the weight of each cell in each mean of adaptive pooling.

    Row i holds those of the cells floor(i cells / wanted) to ceil((i + 1) cells / wanted), which an ONNX graph, whose
    division of integers cuts off the fraction, computes too.
    """
    index, at = torch.arange(wanted), torch.arange(cells)
    start, end = index * cells // wanted, ((index + 1) * cells + wanted - 1) // wanted
    return ((at >= start[:, None]) & (at < end[:, None])) / (end - start)[:, None]


def adaptive_max_pool2d(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`torch.nn.functional.adaptive_max_pool2d`, with a gradient of one order where that is asked for.

    Its form with one order takes windows one by one; where the size is an exact fraction it is a plain maximum pool.

    Args:
        x: (B, C, H, W).
        size: (H', W').

    Returns:
        (B, C, H', W').
    """
    h, w = x.shape[2:]
    if not needs_one_order(x):
        return F.adaptive_max_pool2d(x, size)
    if h % size[0] == 0 and w % size[1] == 0:
        return F.max_pool2d(x, (h // size[0], w // size[1]))
    rows, columns = _windows(h, size[0]), _windows(w, size[1])
    cells = [x[:, :, top:low, left:right].flatten(2).max(2).values for top, low in rows for left, right in columns]
    return torch.stack(cells, 2).unflatten(2, (size[0], size[1]))


def _windows(cells: int, wanted: int) -> list[tuple[int, int]]:
    """First cell and the one behind the last of each window of adaptive pooling."""
    return [(i * cells // wanted, -(-(i + 1) * cells // wanted)) for i in range(wanted)]


def reflection_pad2d(x: Tensor, width: int) -> Tensor:
    """`torch.nn.functional.pad(mode="reflect")` on four sides, with a gradient of one order where that is asked for.

    Args:
        x: (B, C, H, W), larger than `width`.
        width: Cells on each side.

    Returns:
        (B, C, H + 2*width, W + 2*width).
    """
    if not needs_one_order(x):
        return F.pad(x, (width,) * 4, mode="reflect")
    for dim in (2, 3):
        end = x.shape[dim]
        before, after = x.narrow(dim, 1, width).flip(dim), x.narrow(dim, end - 1 - width, width).flip(dim)
        x = torch.cat((before, x, after), dim)
    return x


class ReflectConv2d(nn.Conv2d):
    """A square convolution of stride 1 that keeps the size by reflection at the border.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel side, odd.
        groups: Groups of channels.
    """

    def __init__(self, c1: int, c2: int, k: int, groups: int = 1) -> None:
        super().__init__(c1, c2, k, padding=k // 2, padding_mode="reflect", groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        if not needs_one_order(x):
            return super().forward(x)
        return F.conv2d(reflection_pad2d(x, self.kernel_size[0] // 2), self.weight, self.bias, groups=self.groups)


def _in_two_products(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Resize rows and columns by a matrix each, (H', H) and (W', W), in float32 at the least."""
    wide = at_least_float32(x)
    down, along = (m.to(wide.device, wide.dtype, non_blocking=True) for m in weights)
    with torch.autocast(x.device.type, enabled=False):
        return (down @ wide @ along.T).to(x.dtype)  # (B, C, H', W')
