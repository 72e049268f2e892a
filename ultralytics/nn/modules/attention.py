"""softmax(q k^T * scale) v in several forms, the one place that chooses among them, and self-attention with it.

Shapes: B batch, M heads, N tokens, K query/key width, P value width, R rows of a block; self-attention has Q queries of
hidden width D, d of them for a head.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.matmul import MatmulBackend, select_backend
from ultralytics.nn.modules.utils import is_capturing_graph
from ultralytics.utils.torch_utils import cpu_has_amx

# Milliseconds of plain / fused / blocks, K 16, P 64, torch 2.14, 2 cores of a CPU with AVX512-BF16 and without AMX, on
# which the fused kernel does not use the bfloat16 instructions:
#                       forward, fp32      with gradient, fp32   forward, bf16       with gradient, bf16
#   B 1, N 400          0.6 / 0.7 / 0.7    1.5 / 2.9 / 2.1       0.5 / 0.7 / 0.6     1.1 / 3.3 / 1.7
#   B 1, N 1600         5.3 / 6.4 / 5.1    15 / 28 / 16          3.4 / 6.3 / 2.6     6.8 / 30 / 9.7
#   B 1, N 3600         56 / 24 / 19       126 / 89 / 57         14 / 25 / 12        35 / 89 / 39
#   B 1, N 6400         209 / 78 / 70      459 / 331 / 223       89 / 75 / 36        193 / 267 / 112
#   B 4, N 1600         35 / 20 / 17       86 / 72 / 63          9.9 / 21 / 10       28 / 59 / 41
#   B 8, N 1600         97 / 41 / 38       228 / 149 / 137       40 / 43 / 21        96 / 130 / 97
# With AMX, for which that kernel has a path of its own, and on GPUs it was not measured; both always take the kernel.
BLOCK = 1600 * 1600
"""Numbers of the attention map that a CPU works on at a time: a block and its gradient, which stay in its caches."""

MAX_WHOLE_MAP = 1 << 24
"""Numbers in all attention maps of a call that are held whole in bfloat16, by several heads or with a gradient."""


def single_head_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """softmax(q k^T * scale) v, without holding the N x N map unless it is small.

    q, k are (B, N, K), v is (B, N, P); returns (B, N, P).
    """
    eager = q.is_cpu and not torch.compiler.is_compiling() and not cpu_has_amx()  # N of a compiled graph may be open
    if eager and _map_size(q) <= (MAX_WHOLE_MAP if q.dtype is torch.bfloat16 and q.requires_grad else BLOCK):
        return attend_plain(q, k, v, scale)
    if torch.onnx.is_in_onnx_export() or q.is_meta:
        return attend_plain(q, k, v, scale)  # standard operators only; on the meta device, FLOPs without the padding
    return attend_in_blocks(q, k, v, scale) if eager and not is_capturing_graph() else attend_fused(q, k, v, scale)


def multi_head_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, scale: float | None = None, dropout: float = 0.0
) -> Tensor:
    """softmax(q k^T * scale + mask) v of each head; `scale` None is 1 / sqrt(K).

    q, k are (B, M, N, K), v is (B, M, N, P); returns (B, M, N, P). `mask` broadcasts to (B, M, N, N): boolean, True =
    allowed, or a term. The framework's fused kernel, but on CPUs for widths K and P that it does not take, and for
    bfloat16 where it does not use that. A token that may attend to nothing gets zeros.
    """
    eager = q.is_cpu and not is_capturing_graph()  # asked first: a graph cannot hold the look at the CPU
    plain = eager and (q.shape[-1] != v.shape[-1] or (q.dtype is torch.bfloat16 and not cpu_has_amx()))
    if not plain or q.shape[:2].numel() * q.shape[2] ** 2 > MAX_WHOLE_MAP:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale)
    scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(2, 3)  # (B, M, N, N)
    if mask is None:
        return F.dropout(scores.softmax(-1), dropout) @ v
    if mask.dtype is torch.bool:  # as a term: filling would pass over all heads a second time for the gradient
        mask = torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, -torch.inf)
    blind = (mask == -torch.inf).all(-1, keepdim=True)  # their softmax would be NaN
    scores = scores + mask.masked_fill(blind, 0).to(scores.dtype)
    return (F.dropout(scores.softmax(-1), dropout) @ v).masked_fill(blind, 0)


class SelfAttention(nn.MultiheadAttention):
    """The weights of `nn.MultiheadAttention`, by its names, for `attend`.

    Query and key probs one input there, so one product projects both; its own `forward` needs three, and transposes for
    its own layout.
    """

    def project_query_key(self, x: Tensor) -> Tensor:
        """(B, Q, D) -> (B, Q, 2 D)."""
        return self._project(x, "project_query_key")

    def project_value(self, x: Tensor) -> Tensor:
        """(B, Q, D) -> (B, Q, D)."""
        return self._project(x, "project_value")

    def parts(self) -> dict[str, slice]:
        """Return the rows of the weight that each of these methods uses."""
        return {"project_query_key": slice(2 * self.embed_dim), "project_value": slice(2 * self.embed_dim, None)}

    def _project(self, x: Tensor, name: str) -> Tensor:
        rows = self.parts()[name]
        return F.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])


def attend(
    mha: SelfAttention,
    query_key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    key_padding_mask: Tensor | None = None,
) -> Tensor:
    """Self-attention with the weights of `mha`.

    Args:
        mha: Holder of the projections.
        query_key: (B, Q, D), the tokens plus their positions.
        value: (B, Q, D), the tokens.
        attn_mask: (Q, Q), boolean (True = blocked) or a float term added to the scores.
        key_padding_mask: (B, Q), boolean (True = blocked).
    """
    heads = mha.num_heads
    qk = mha.project_query_key(query_key).unflatten(-1, (2, heads, -1))  # (B, Q, 2, M, d)
    v = mha.project_value(value).unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, M, Q, d)
    q, k = qk.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, M, Q, d)
    mask = _allowed(attn_mask, key_padding_mask)
    out = multi_head_attention(q, k, v, mask, dropout=mha.dropout if mha.training else 0.0)
    return mha.out_proj(out.transpose(1, 2).flatten(2))  # (B, Q, D)


def _allowed(attn_mask: Tensor | None, key_padding_mask: Tensor | None) -> Tensor | None:
    """Turn 'True = blocked' masks into the one mask of the fused kernel, where True means allowed."""
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = ~attn_mask
    if key_padding_mask is None:
        return attn_mask
    padding = ~key_padding_mask[:, None, None, :]  # (B, 1, 1, Q)
    if attn_mask is None:
        return padding
    if attn_mask.dtype == torch.bool:
        return attn_mask & padding
    return attn_mask.masked_fill(~padding, -math.inf)


def _map_size(q: Tensor) -> int:
    """Numbers in the whole map of q (B, N, K); of a graph that is traced, with the sizes of its example."""
    if not torch.jit.is_tracing():  # type: ignore[attr-defined]
        return q.shape[0] * q.shape[1] ** 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        return int(q.shape[0]) * int(q.shape[1]) ** 2


def attend_plain(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """The formula as it is written; memory grows with N squared."""
    return ((q * scale) @ k.transpose(1, 2)).softmax(-1) @ v  # (B, N, N) @ (B, N, P)


def attend_fused(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """The framework's fused kernel, which wants equal widths and contiguous (B, 1, N, D): the narrower are zero-padded.

    Zero columns of q and k add nothing to a product, zero columns of v are cut off again.
    """
    width = max(q.shape[-1], v.shape[-1])
    q, k, v_wide = (F.pad(t, (0, width - t.shape[-1])).unsqueeze(1).contiguous() for t in (q, k, v))  # (B, 1, N, D)
    return F.scaled_dot_product_attention(q, k, v_wide, scale=scale).squeeze(1)[..., : v.shape[-1]]  # (B, N, P)


def attend_in_blocks(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """The plain formula for as many queries at a time as `BLOCK` allows, always in the same buffer; no padding.

    The backward pass computes the map again, block by block, as in "FlashAttention" (arXiv 2205.14135, section 3.1). A
    second derivative is not available.
    """
    out: Tensor = _Blocks.apply(q, k, v, scale)
    return out


class _Context(torch.autograd.function.FunctionCtx):
    """What the forward pass keeps for the backward pass."""

    scale: float
    saved_tensors: tuple[Tensor, Tensor, Tensor, Tensor]


class _Blocks(torch.autograd.Function):
    """Attention that never holds its whole map."""

    @staticmethod
    def forward(ctx: _Context, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        q, k, v = (q * scale).contiguous(), k.contiguous(), v.contiguous()
        out = torch.empty_like(v)
        backend = select_backend(q)
        for image in range(len(q)):
            keys, values = backend.factor(k[image]), backend.factor(v[image].t())
            for rows in _blocks(q, backend):
                probs = _softmax(backend.product(q[image, rows], keys, 0))  # (R, N)
                out[image, rows] = backend.product(probs, values)
        ctx.save_for_backward(q, k, v, out)
        ctx.scale = scale
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: _Context, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, out = ctx.saved_tensors
        grad = grad.contiguous()
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        mean = (grad.to(torch.promote_types(grad.dtype, torch.float32)) * out).sum(-1, keepdim=True)  # (B, N, 1)
        backend = select_backend(q, gradient=True)
        for image in range(len(q)):
            keys, back = backend.factor(k[image]), backend.factor(k[image].t())
            score_gradient = backend.score_gradient(grad[image], mean[image], v[image])
            sum_k, sum_v = backend.accumulator(k[image]), backend.accumulator(v[image])
            for rows in _blocks(q, backend):
                queries = q[image, rows]  # (R, K)
                probs = _softmax(backend.product(queries, keys, 0))  # (R, N)
                sum_v.add(probs, grad[image, rows])
                grad_scores = score_gradient.compute(rows, probs)  # (R, N)
                grad_q[image, rows] = backend.product(grad_scores, back)
                sum_k.add(grad_scores, queries)
                del probs, grad_scores  # before the next block allocates its own
            grad_k[image], grad_v[image] = sum_k.total(), sum_v.total()
        return grad_q * ctx.scale, grad_k, grad_v, None


def _blocks(q: Tensor, backend: MatmulBackend) -> Iterator[slice]:
    """Queries of each block, in blocks of about the same size."""
    n = q.shape[1]
    count = math.ceil(n / max(1, int(BLOCK * backend.size) // max(n, 1)))
    step = math.ceil(n / max(count, 1))
    return (slice(i * step, min((i + 1) * step, n)) for i in range(count) if i * step < n)


def _softmax(scores: Tensor) -> Tensor:
    """softmax over the last axis, in place."""
    return torch.softmax(scores, -1, out=scores)
