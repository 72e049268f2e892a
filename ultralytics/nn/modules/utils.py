"""Helpers of the transformer modules: initialisation, logits, gradients, and what is being captured as a graph.

Shapes: B batch, C channels, H x W map.
"""

from __future__ import annotations

import copy
import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.deformable import multi_scale_deformable_attn_pytorch, sample_and_project
from ultralytics.nn.modules.graph_capture import is_capturing_graph, is_exporting
from ultralytics.utils.ops import at_least_float32
from ultralytics.utils.torch_tools.reproducible import adaptive_avg_pool2d, window_weights

__all__ = (
    "adaptive_mean",
    "add_clamped",
    "at_least_float32",
    "bias_init_with_prob",
    "ceil_div",
    "contiguous_gradient",
    "inverse_sigmoid",
    "is_capturing_graph",
    "is_exporting",
    "linear_init",
    "multi_scale_deformable_attn_pytorch",
    "refine_box",
    "sample_and_project",
    "sym_min",
)

_Size = TypeVar("_Size", int, Tensor)


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


def contiguous_gradient(x: Tensor) -> Tensor:
    """Return a map (B, C, H, W) whose gradient comes back laid out row by row; for maps that become tokens.

    The gradient of tokens is a transposed view. For one image its strides are ambiguous, and the CPU batch norm of
    torch 2.14 reads them wrongly: no error, but another gradient in all layers before.
    """
    if x.requires_grad and not torch.compiler.is_compiling():
        x.register_hook(lambda grad: None if grad is None else grad.contiguous())
    return x


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


def refine_box(delta: Tensor, box: Tensor) -> Tensor:
    """Return the box moved by `delta` in logit space, at least float32."""
    return (at_least_float32(delta) + inverse_sigmoid(box)).sigmoid()


def ceil_div(size: _Size, by: int) -> _Size:
    """Return how many pieces of `by` cells cover `size`.

    `-(-size // by)` is another number in an ONNX graph, whose division of integers cuts off the fraction.
    """
    return (size + by - 1) // by


def adaptive_mean(x: Tensor, height: int, width: int) -> Tensor:
    """Return the means (B, C, height, width) of overlapping parts of a map (B, C, H, W), `F.adaptive_avg_pool2d`.

    ONNX has this pooling for sizes that divide the map's alone; a graph gets two products instead, for a fixed size.
    """
    if not torch.onnx.is_in_onnx_export():
        return adaptive_avg_pool2d(x, (height, width))
    rows, columns = window_weights(int(x.shape[2]), int(height)), window_weights(int(x.shape[3]), int(width))
    return rows.to(x) @ x @ columns.to(x).T


def sym_min(*sizes: Any) -> Any:
    """Return the smallest of several sizes; symbols and traced numbers of an exported graph stay open."""
    least = sizes[0]
    for size in sizes[1:]:
        if isinstance(least, Tensor) or isinstance(size, Tensor):  # what a size is while a graph is traced
            least = torch.minimum(torch.as_tensor(least), torch.as_tensor(size))
        else:
            least = torch.sym_min(least, size)
    return least
