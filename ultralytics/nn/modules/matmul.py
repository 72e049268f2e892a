"""Matrix products of many blocks with one matrix, computed by the fastest library.

Shapes: B batch, N tokens, P value width; R rows of a block, (C, D) a matrix, T threads.

Milliseconds for attention of N 6400, K 16, P 64 in float32, with torch's own product of matrices and with oneDNN's, 200
rows in a block, 2 cores of an AMD EPYC with AVX512, torch 2.14: map v 30.9 / 24.3; of the gradient 32.2 / 25.9 for the
map's, 8.9 / 6.6 for that of q, 29.9 / 26.1 for the sum for v, 11 / 10 for the sum for k.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ultralytics.utils.torch_utils import has_onednn_operators, native_bf16

MIN_TOKENS = 2048
"""Tokens from which on oneDNN's product is the faster on x86 CPUs: in float32, and for the gradient in bfloat16."""

ROWS = 160
"""Number of rows of a block that oneDNN optimises the layout of a matrix for."""


class MatmulBackend:
    """Matrix products by torch, for blocks of the dtype of x."""

    size = 1.0
    """Size of a block relative to `attention.BLOCK`."""

    def __init__(self, x: Tensor) -> None:
        # parts of a block, one for each thread, stay in its core's cache; bfloat16 is distributed better as a whole
        self.parts = 1 if x.dtype is torch.bfloat16 else torch.get_num_threads()
        self._workspaces: dict[int, Tensor] = {}

    def factor(self, matrix: Tensor) -> Tensor:
        """Lay a matrix (C, D) out as the second factor of `product`."""
        return matrix.t().contiguous()

    def product(self, x: Tensor, factor: Tensor, workspace: int | None = None) -> Tensor:
        """Return x (R, D) times the transpose of a matrix: (R, C).

        With the number of a workspace the result may lie in memory that the next product with that number overwrites.
        """
        if workspace is None:
            return x @ factor
        rows, columns = len(x), factor.shape[1]
        if workspace not in self._workspaces or self._workspaces[workspace].numel() < rows * columns:
            self._workspaces[workspace] = x.new_empty(rows * columns)
        out = self._workspaces[workspace][: rows * columns].view(rows, columns)  # (R, C)
        parts = 1 if rows % self.parts else self.parts
        split = (x.view(parts, -1, x.shape[1]), factor.expand(parts, -1, -1))  # (T, R / T, D), (T, D, C)
        torch.bmm(*split, out=out.view(parts, -1, columns))  # (T, R / T, C)
        return out

    def accumulator(self, like: Tensor) -> GradAccumulator:
        """Return an accumulator of shape (C, D), to which products of blocks are added."""
        return GradAccumulator(like)

    def score_gradient(self, grads: Tensor, mean: Tensor, values: Tensor) -> ScoreGradient:
        """Return what computes the gradient of the scores from that of the output of attention."""
        return ScoreGradient(self, grads, mean, values)


class GradAccumulator:
    """The sum (C, D) of products a^T b of blocks a (R, C) and b (R, D), in float32 or better."""

    def __init__(self, like: Tensor) -> None:
        self.dtype = like.dtype
        self.sum = torch.zeros_like(like, dtype=torch.promote_types(like.dtype, torch.float32))

    def add(self, a: Tensor, b: Tensor) -> None:
        """Add one product."""
        if self.sum.dtype is a.dtype:
            self.sum.addmm_(a.t(), b)
        else:
            self.sum += a.t() @ b

    def total(self) -> Tensor:
        """Return the sum in the dtype of the tensor that it is the gradient of."""
        return self.sum.to(self.dtype)


class ScoreGradient:
    """The gradient of the scores, p * (g v^T - mean), for some queries at a time.

    g is (N, P), the gradient of the output, mean (N, 1) the mean of each row of g v^T under p, v (N, P).
    """

    def __init__(self, backend: MatmulBackend, grads: Tensor, mean: Tensor, values: Tensor) -> None:
        self.backend, self.grads, self.mean = backend, grads, mean
        self.factor = backend.factor(values)

    def compute(self, rows: slice, probs: Tensor) -> Tensor:
        """Return the gradient (R, N) for the queries of `rows`, whose probabilities p are (R, N)."""
        return self.backend.product(self.grads[rows], self.factor, 1).sub_(self.mean[rows]).mul_(probs)


class OneDNNBackend(MatmulBackend):
    """Matrix products by oneDNN: the layout of the second factor is prepared once."""

    def __init__(self, x: Tensor) -> None:
        super().__init__(x)
        self.size = 0.8 if x.dtype is torch.bfloat16 else 0.4

    def factor(self, matrix: Tensor) -> Tensor:
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(matrix.contiguous(), ROWS)
        return packed

    def product(self, x: Tensor, factor: Tensor, workspace: int | None = None) -> Tensor:
        return _linear(x, factor)

    def accumulator(self, like: Tensor) -> GradAccumulator:
        return TransposedAccumulator(like)

    def score_gradient(self, grads: Tensor, mean: Tensor, values: Tensor) -> ScoreGradient:
        low = values.dtype is torch.bfloat16  # in float32 passes over a block cost less than two more terms
        return (FusedScoreGradient if low else ScoreGradient)(self, grads, mean, values)


class FusedScoreGradient(ScoreGradient):
    """The mean is a term of the product, and the probabilities are multiplied in registers."""

    def __init__(self, backend: MatmulBackend, grads: Tensor, mean: Tensor, values: Tensor) -> None:
        high = mean.to(grads.dtype)
        low = (mean - high).to(grads.dtype)  # what bfloat16 left of it
        self.grads = torch.cat((grads, -high, -low), 1)  # (N, P + 2)
        self.factor = backend.factor(F.pad(values, (0, 2), value=1.0))  # of (N, P + 2)

    def compute(self, rows: slice, probs: Tensor) -> Tensor:
        grad: Tensor = torch.ops.mkldnn._linear_pointwise.binary(self.grads[rows], probs, self.factor, None, "mul")
        return grad


class TransposedAccumulator(GradAccumulator):
    """A sum kept as (D, C), for which no block is transposed."""

    def __init__(self, like: Tensor) -> None:
        super().__init__(like.t())

    def add(self, a: Tensor, b: Tensor) -> None:
        self.sum += _linear(b.t().contiguous(), a.t())

    def total(self) -> Tensor:
        return super().total().t()


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return y


def select_backend(x: Tensor, gradient: bool = False) -> MatmulBackend:
    """Return the fastest backend for products of blocks of tokens x (B, N, D) with matrices (N, D).

    With `gradient` it is also used in the backward pass. Torch is used for few tokens: at N 1600 and 4 images it took
    13 ms where oneDNN took 14, at N 6400 52 where that took 48. On a CPU that was kept to AVX2 they were equal. In
    bfloat16 the forward pass takes the same with either; with the gradient it was 105 ms instead of 135 at N 6400, and
    equal at N 1600. Subclasses of Tensor may hold no values.
    """
    if type(x) is not Tensor or not x.is_cpu or x.shape[1] < MIN_TOKENS or not has_onednn_operators():
        return MatmulBackend(x)
    low = gradient and x.dtype is torch.bfloat16 and native_bf16("cpu")
    return OneDNNBackend(x) if low or x.dtype is torch.float32 else MatmulBackend(x)
