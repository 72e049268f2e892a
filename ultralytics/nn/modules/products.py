"""Products of many blocks with the same matrix, by the library that is the fastest for them.

Milliseconds for attention of N 6400, K 16, P 64 in float32, with torch's own product of matrices and with oneDNN's, 200
rows in a block, 2 cores of an AMD EPYC with AVX512, torch 2.14: map v 30.9 / 24.3; of the gradient 32.2 / 25.9 for the
map's, 8.9 / 6.6 for that of q, 29.9 / 26.1 for the sum for v, 11 / 10 for the sum for k.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ultralytics.utils.torch_utils import has_onednn_operators

MANY = 2048
"""Tokens from which on oneDNN's product is the faster, in float32 on x86 CPUs."""

ROWS = 160
"""Rows of a block, as oneDNN is told when it lays a matrix out."""


class Products:
    """By torch's own product of matrices, for blocks like x."""

    size = 1.0
    """How large blocks are, of those that suit caches."""

    def __init__(self, x: Tensor) -> None:
        # parts of a block, one for each thread, stay in its core's cache; bfloat16 is shared out better as a whole
        self.parts = 1 if x.dtype is torch.bfloat16 else torch.get_num_threads()
        self._rooms: dict[int, Tensor] = {}

    def factor(self, matrix: Tensor) -> Tensor:
        """Lay a matrix (C, D) out as the second factor of `product`."""
        return matrix.t().contiguous()

    def product(self, x: Tensor, factor: Tensor, room: int | None = None) -> Tensor:
        """Return x (R, D) times the transpose of a matrix: (R, C).

        With a room, a number, it may lie in memory that the next product with that number overwrites.
        """
        if room is None:
            return x @ factor
        rows, columns = len(x), factor.shape[1]
        if room not in self._rooms or self._rooms[room].numel() < rows * columns:
            self._rooms[room] = x.new_empty(rows * columns)
        out = self._rooms[room][: rows * columns].view(rows, columns)  # (R, C)
        parts = 1 if rows % self.parts else self.parts
        split = (x.view(parts, -1, x.shape[1]), factor.expand(parts, -1, -1))  # (T, R / T, D), (T, D, C)
        torch.bmm(*split, out=out.view(parts, -1, columns))  # (T, R / T, C)
        return out

    def sums(self, like: Tensor) -> Sums:
        """Return zeros (C, D), to which products of blocks are added."""
        return Sums(like)


class Sums:
    """The sum (C, D) of products a^T b of blocks a (R, C) and b (R, D), in float32 or better."""

    def __init__(self, like: Tensor) -> None:
        self.kind = like.dtype
        self.sum = torch.zeros_like(like, dtype=torch.promote_types(like.dtype, torch.float32))

    def add(self, a: Tensor, b: Tensor) -> None:
        """Add one product."""
        if self.sum.dtype is a.dtype:
            self.sum.addmm_(a.t(), b)
        else:
            self.sum += a.t() @ b

    def total(self) -> Tensor:
        """Return the sum in the type of what it is to be like."""
        return self.sum.to(self.kind)


class PackedProducts(Products):
    """By oneDNN: the second factor is laid out once."""

    size = 0.4

    def factor(self, matrix: Tensor) -> Tensor:
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(matrix.contiguous(), ROWS)
        return packed

    def product(self, x: Tensor, factor: Tensor, room: int | None = None) -> Tensor:
        return _linear(x, factor)

    def sums(self, like: Tensor) -> Sums:
        return TransposedSums(like)


class TransposedSums(Sums):
    """Sums kept as (D, C), for which no block is turned."""

    def __init__(self, like: Tensor) -> None:
        super().__init__(like.t())

    def add(self, a: Tensor, b: Tensor) -> None:
        self.sum += _linear(b.t().contiguous(), a.t())

    def total(self) -> Tensor:
        return super().total().t()


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return y


def products_for(x: Tensor) -> Products:
    """Return what multiplies blocks of tokens x (B, N, D) with matrices (N, D) the fastest.

    Torch's own for few tokens: at N 1600 and 4 images it took 13 ms where oneDNN took 14, at N 6400 52 where that took
    48. On a CPU that was kept to AVX2 they were equal. Subclasses of Tensor may hold no numbers.
    """
    plain = type(x) is Tensor and x.is_cpu and x.dtype is torch.float32
    return PackedProducts(x) if plain and x.shape[1] >= MANY and has_onednn_operators() else Products(x)
