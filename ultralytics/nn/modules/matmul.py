"""Products of many blocks with the same matrix, by the library that is the fastest for them.

Milliseconds for attention of N 6400, K 16, P 64 in float32, with torch's own product of matrices and with oneDNN's, 200
rows in a block, 2 cores of an AMD EPYC with AVX512, torch 2.14: map v 30.9 / 24.3; of the gradient 32.2 / 25.9 for the
map's, 8.9 / 6.6 for that of q, 29.9 / 26.1 for the sum for v, 11 / 10 for the sum for k.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ultralytics.utils.torch_utils import has_onednn_operators, native_bf16

MANY = 2048
"""Tokens from which on oneDNN's product is the faster on x86 CPUs: in float32, and for the gradient in bfloat16."""

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

    def slopes(self, grads: Tensor, mean: Tensor, values: Tensor) -> Slopes:
        """Return what computes the gradient of scores from that of the attention's output."""
        return Slopes(self, grads, mean, values)


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


class Slopes:
    """The gradient of the scores, p * (g v^T - mean), for some queries at a time.

    g is (N, P), the gradient of the output, mean (N, 1), what each row of g v^T is on average, v (N, P).
    """

    def __init__(self, by: Products, grads: Tensor, mean: Tensor, values: Tensor) -> None:
        self.by, self.grads, self.mean = by, grads, mean
        self.factor = by.factor(values)

    def of(self, rows: slice, share: Tensor) -> Tensor:
        """Return it for the queries of `rows`, whose shares p are (R, N)."""
        return self.by.product(self.grads[rows], self.factor, 1).sub_(self.mean[rows]).mul_(share)


class PackedProducts(Products):
    """By oneDNN: the second factor is laid out once."""

    def __init__(self, x: Tensor) -> None:
        super().__init__(x)
        self.size = 0.8 if x.dtype is torch.bfloat16 else 0.4

    def factor(self, matrix: Tensor) -> Tensor:
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(matrix.contiguous(), ROWS)
        return packed

    def product(self, x: Tensor, factor: Tensor, room: int | None = None) -> Tensor:
        return _linear(x, factor)

    def sums(self, like: Tensor) -> Sums:
        return TransposedSums(like)

    def slopes(self, grads: Tensor, mean: Tensor, values: Tensor) -> Slopes:
        low = values.dtype is torch.bfloat16  # in float32 passes over a block cost less than two more terms
        return (FusedSlopes if low else Slopes)(self, grads, mean, values)


class FusedSlopes(Slopes):
    """The mean is a term of the product, and the shares are multiplied with what that has in registers."""

    def __init__(self, by: Products, grads: Tensor, mean: Tensor, values: Tensor) -> None:
        high = mean.to(grads.dtype)
        low = (mean - high).to(grads.dtype)  # what bfloat16 left of it
        self.grads = torch.cat((grads, -high, -low), 1)  # (N, P + 2)
        self.factor = by.factor(F.pad(values, (0, 2), value=1.0))  # of (N, P + 2)

    def of(self, rows: slice, share: Tensor) -> Tensor:
        slope: Tensor = torch.ops.mkldnn._linear_pointwise.binary(self.grads[rows], share, self.factor, None, "mul")
        return slope


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


def products_for(x: Tensor, gradient: bool = False) -> Products:
    """Return what multiplies blocks of tokens x (B, N, D) with matrices (N, D) the fastest, also for the gradient.

    Torch's own for few tokens: at N 1600 and 4 images it took 13 ms where oneDNN took 14, at N 6400 52 where that took
    48. On a CPU that was kept to AVX2 they were equal. In bfloat16 the forward pass takes the same with either; with
    the gradient it was 105 ms instead of 135 at N 6400, and equal at N 1600. Subclasses of Tensor may hold no numbers.
    """
    if type(x) is not Tensor or not x.is_cpu or x.shape[1] < MANY or not has_onednn_operators():
        return Products(x)
    low = gradient and x.dtype is torch.bfloat16 and native_bf16("cpu")
    return PackedProducts(x) if low or x.dtype is torch.float32 else Products(x)
