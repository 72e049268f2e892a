"""Box edges as distributions over bins (fine-grained distribution refinement of D-FINE, arXiv 2410.13842, section 3.1).

Each edge of a box moves from a reference box by a distance that is the mean of R + 1 uneven bins. Shapes: R + 1 bins,
edges in the order left, top, right, bottom, `...` any leading axes. Boxes are cx, cy, w, h in 0..1; distances are in
units of the reference's side over `reg_scale`, counted from half of it. All functions work in at least float32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ultralytics.utils.ops import at_least_float32

__all__ = ("EdgeTarget", "bin_weights", "decode_edges", "encode_edges")


class EdgeTarget(NamedTuple):
    """Target of each edge: two neighbouring bins share it."""

    bin: Tensor  # (..., 4) float, the left bin; R - 0.1 where the distance is beyond the last
    left: Tensor  # (..., 4) weight of the left bin
    right: Tensor  # (..., 4) weight of the next bin


def bin_weights(reg_max: int, up: Tensor, reg_scale: Tensor) -> Tensor:
    """Return the distance of each bin, (R + 1,): 0 in the middle, growing geometrically, twice the bound at the ends.

    Args:
        reg_max: Number of bins R less one; even, at least 4.
        up: One number, the bound of a distance in box sides.
        reg_scale: One number, the curvature.

    Raises:
        ValueError: `reg_max` is odd or below 4.

    >>> [round(v, 3) for v in bin_weights(4, torch.tensor(0.5), torch.tensor(4.0)).tolist()]
    [-4.0, -2.0, 0.0, 2.0, 4.0]
    """
    if reg_max < 4 or reg_max % 2:
        raise ValueError(f"reg_max={reg_max} must be an even number, at least 4, so that a bin lies in the middle")
    bound = (at_least_float32(up).abs() * at_least_float32(reg_scale).abs()).reshape(1)
    step = (bound + 1) ** (2 / (reg_max - 2))
    inner = step ** torch.arange(1, reg_max // 2, dtype=step.dtype, device=step.device) - 1  # (R/2 - 1,)
    return torch.cat((-2 * bound, -inner.flip(0), torch.zeros_like(bound), inner, 2 * bound))


def decode_edges(reference: Tensor, distance: Tensor, reg_scale: Tensor | float) -> Tensor:
    """Return the boxes (..., 4) whose edges lie at distances (..., 4) from reference boxes (..., 4); not clipped."""
    centre, size = at_least_float32(reference).split(2, -1)
    near, far = at_least_float32(distance).split(2, -1)
    unit, half = size / reg_scale, 0.5 * reg_scale
    low = centre - (half + near) * unit
    high = centre + (half + far) * unit
    return torch.cat(((low + high) / 2, high - low), -1)


def encode_edges(reference: Tensor, boxes: Tensor, bins: Tensor, reg_scale: Tensor | float) -> EdgeTarget:
    """Return the bins between which the edges of `boxes` (..., 4) lie, seen from reference boxes (..., 4).

    Args:
        reference: Reference boxes.
        boxes: Target boxes.
        bins: (R + 1,) from `bin_weights`.
        reg_scale: The curvature.
    """
    (centre, size), (goal, side) = at_least_float32(reference).split(2, -1), at_least_float32(boxes).split(2, -1)
    unit = size / reg_scale + 1e-16
    near = (centre - (goal - side / 2)) / unit
    far = ((goal + side / 2) - centre) / unit
    distance = torch.cat((near, far), -1) - 0.5 * reg_scale  # (..., 4)
    last = len(bins) - 1
    bins = bins.to(distance)
    place = torch.bucketize(distance.detach().contiguous(), bins, right=True) - 1  # (..., 4), -1 to R
    index = place.clamp(0, last - 1)
    low, high = bins[index], bins[index + 1]
    right = ((distance - low) / (high - low)).clamp(0, 1)
    beyond = place >= last
    return EdgeTarget(torch.where(beyond, last - 0.1, index.to(distance.dtype)), 1 - right, right)
