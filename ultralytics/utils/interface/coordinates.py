"""Points in images, and small functions of `utils.ops`, under the names of the interface.

Points are (..., 2) x, y in pixels or 0..1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch

from ultralytics.utils.ops import ArrayLike, RatioPad, letterbox_geometry


def clip_coords(coords: ArrayLike, shape: Sequence[int]) -> ArrayLike:
    """Move points into an image (h, w), in place; they are returned too."""
    coords[..., 0] = coords[..., 0].clip(0, shape[1])
    coords[..., 1] = coords[..., 1].clip(0, shape[0])
    return coords


def scale_coords(
    img1_shape: Sequence[int],
    coords: ArrayLike,
    img0_shape: Sequence[int],
    ratio_pad: RatioPad | None = None,
    normalize: bool = False,
    padding: bool = True,
) -> ArrayLike:
    """Map points of a network input (h, w) to the original image (h, w), in place, and clip them; they are returned.

    The input is letterboxed with the image in its middle, without `padding` in its left top. With `normalize` the
    result is in 0..1.
    """
    (gain, _), (left, top) = letterbox_geometry(img0_shape, img1_shape) if ratio_pad is None else ratio_pad
    coords[..., 0] = (coords[..., 0] - left * padding) / gain
    coords[..., 1] = (coords[..., 1] - top * padding) / gain
    clip_coords(coords, img0_shape)
    if normalize:
        coords[..., 0] /= img0_shape[1]
        coords[..., 1] /= img0_shape[0]
    return coords


def clean_str(s: str) -> str:
    """Return a string in which what a file name or an address may not hold is an underscore.

    >>> clean_str("rtsp://a.b:8554/x?y=1")
    'rtsp___a.b_8554_x_y_1'
    """
    return re.sub(r"[^\w.\-]", "_", s)


def empty_like(x: ArrayLike) -> ArrayLike:
    """Return an array or tensor of the same shape in float32, whose values are whatever is in memory."""
    return torch.empty_like(x, dtype=torch.float32) if isinstance(x, torch.Tensor) else np.empty_like(x, np.float32)
