"""Slow reference of sampling for deformable attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def sample_by_loops(value: Tensor, shapes: Sequence[tuple[int, int]], places: Tensor, weights: Tensor) -> Tensor:
    """Sample one number at a time: value (B, N, M, d), places (B, Q, M, L*P, 2), weights (B, Q, M, L*P)."""
    b, _, heads, d = value.shape
    q, total = places.shape[1], places.shape[3]
    points = total // len(shapes)
    out = torch.zeros(b, q, heads, d, dtype=value.dtype)
    starts = [sum(h * w for h, w in shapes[:i]) for i in range(len(shapes))]
    for i, j, m, k in ((i, j, m, k) for i in range(b) for j in range(q) for m in range(heads) for k in range(total)):
        h, w = shapes[k // points]
        x, y = places[i, j, m, k, 0].item() * w - 0.5, places[i, j, m, k, 1].item() * h - 0.5
        for row in (math.floor(y), math.floor(y) + 1):
            for col in (math.floor(x), math.floor(x) + 1):
                if 0 <= row < h and 0 <= col < w:
                    weight = (1 - abs(y - row)) * (1 - abs(x - col)) * weights[i, j, m, k].item()
                    out[i, j, m] += weight * value[i, starts[k // points] + row * w + col, m]
    return out.flatten(2)
