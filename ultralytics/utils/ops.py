"""Box and coordinate conversions, scaling, clipping, polygon helpers and a device-aware timer.

Every box function is pure (it returns a new array and leaves its input unchanged), works on the last axis, accepts
NumPy arrays and torch tensors, and is safe on empty input. Formats:

* ``xyxy``: left, top, right, bottom;
* ``xywh``: centre x, centre y, width, height;
* ``ltwh``: left, top, width, height;
* a trailing ``n``: the same, divided by the image's width and height (0 to 1).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from ultralytics.utils.interface import interface_names

_Array = npt.NDArray[np.floating]
ArrayLike = TypeVar("ArrayLike", npt.NDArray[np.floating], torch.Tensor)
RatioPad = tuple[tuple[float, float], tuple[float, float]]
"""((gain_h, gain_w), (left, top)): original pixels times gain plus padding are network-input pixels."""


def _columns(x: ArrayLike) -> tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]:
    """Split the last axis into its four columns."""
    if x.shape[-1] != 4:
        raise ValueError(f"boxes need 4 values on the last axis, got shape {tuple(x.shape)}")
    return x[..., 0], x[..., 1], x[..., 2], x[..., 3]


def _join(parts: Sequence[ArrayLike], like: ArrayLike) -> ArrayLike:
    """Stack columns on a new last axis, in the library of `like`."""
    if isinstance(like, torch.Tensor):
        return torch.stack(list(parts), -1)
    return np.stack(parts, -1)


def _clamp(x: ArrayLike, low: float, high: float) -> ArrayLike:
    """Limit values to [low, high], in the library of `x`."""
    return x.clamp(low, high) if isinstance(x, torch.Tensor) else x.clip(low, high)


def xyxy2xywh(x: ArrayLike) -> ArrayLike:
    """Corners to centre and size.

    >>> xyxy2xywh(np.array([[10.0, 20.0, 30.0, 60.0]])).tolist()
    [[20.0, 40.0, 20.0, 40.0]]
    """
    x1, y1, x2, y2 = _columns(x)
    return _join(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), x)


def xywh2xyxy(x: ArrayLike) -> ArrayLike:
    """Centre and size to corners.

    >>> xywh2xyxy(torch.tensor([20.0, 40.0, 20.0, 40.0])).tolist()
    [10.0, 20.0, 30.0, 60.0]
    """
    cx, cy, w, h = _columns(x)
    half_w, half_h = w / 2, h / 2
    return _join((cx - half_w, cy - half_h, cx + half_w, cy + half_h), x)


def xywhn2xyxy(x: ArrayLike, w: float = 640, h: float = 640, padw: float = 0, padh: float = 0) -> ArrayLike:
    """Normalised centre and size to corners in pixels of a `w` x `h` image placed at (`padw`, `padh`).

    >>> xywhn2xyxy(np.array([0.5, 0.5, 0.5, 1.0]), w=100, h=40, padw=2).tolist()
    [27.0, 0.0, 77.0, 40.0]
    """
    cx, cy, bw, bh = _columns(x)
    half_w, half_h = bw / 2, bh / 2
    return _join(
        (w * (cx - half_w) + padw, h * (cy - half_h) + padh, w * (cx + half_w) + padw, h * (cy + half_h) + padh), x
    )


def xyxy2xywhn(x: ArrayLike, w: float = 640, h: float = 640, clip: bool = False, eps: float = 0.0) -> ArrayLike:
    """Corners in pixels to normalised centre and size.

    `clip` first limits the corners to the image, `eps` pixels inside its right and lower edge.

    >>> xyxy2xywhn(np.array([-10.0, 0.0, 50.0, 40.0]), w=100, h=40, clip=True).tolist()
    [0.25, 0.5, 0.5, 1.0]
    """
    x1, y1, x2, y2 = _columns(clip_boxes(x, (h - eps, w - eps)) if clip else x)
    return _join(((x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h), x)


def xywh2ltwh(x: ArrayLike) -> ArrayLike:
    """Centre and size to left, top and size.

    >>> xywh2ltwh(np.array([20.0, 40.0, 20.0, 40.0])).tolist()
    [10.0, 20.0, 20.0, 40.0]
    """
    cx, cy, w, h = _columns(x)
    return _join((cx - w / 2, cy - h / 2, w, h), x)


def ltwh2xywh(x: ArrayLike) -> ArrayLike:
    """Left, top and size to centre and size.

    >>> ltwh2xywh(np.array([10.0, 20.0, 20.0, 40.0])).tolist()
    [20.0, 40.0, 20.0, 40.0]
    """
    left, top, w, h = _columns(x)
    return _join((left + w / 2, top + h / 2, w, h), x)


def xyxy2ltwh(x: ArrayLike) -> ArrayLike:
    """Corners to left, top and size.

    >>> xyxy2ltwh(np.array([10.0, 20.0, 30.0, 60.0])).tolist()
    [10.0, 20.0, 20.0, 40.0]
    """
    x1, y1, x2, y2 = _columns(x)
    return _join((x1, y1, x2 - x1, y2 - y1), x)


def ltwh2xyxy(x: ArrayLike) -> ArrayLike:
    """Left, top and size to corners.

    >>> ltwh2xyxy(np.array([10.0, 20.0, 20.0, 40.0])).tolist()
    [10.0, 20.0, 30.0, 60.0]
    """
    left, top, w, h = _columns(x)
    return _join((left, top, left + w, top + h), x)


def clip_boxes(boxes: ArrayLike, shape: Sequence[float]) -> ArrayLike:
    """Limit xyxy boxes to an image of `shape` (height, width, ...).

    >>> clip_boxes(np.array([[-5.0, 10.0, 130.0, 90.0]]), (80, 100)).tolist()
    [[0.0, 10.0, 100.0, 80.0]]
    """
    h, w = shape[:2]
    x1, y1, x2, y2 = _columns(boxes)
    return _join((_clamp(x1, 0, w), _clamp(y1, 0, h), _clamp(x2, 0, w), _clamp(y2, 0, h)), boxes)


def letterbox_gains(shape: Sequence[int], target: Sequence[int], scaleup: bool = True) -> tuple[float, float]:
    """Return what height and width of an image (h, w) are multiplied by to fit into `target` (h, w), its aspect kept.

    The resized image has whole pixels, at least one, so each side has a gain of its own: its new pixels over its old
    ones. The side that fills the target has the exact one.

    >>> letterbox_gains((50, 30), (20, 16))
    (0.4, 0.4)
    >>> letterbox_gains((2000, 3), (64, 64))
    (0.032, 0.3333333333333333)
    """
    gain = min(target[0] / shape[0], target[1] / shape[1], *([] if scaleup else [1.0]))
    gain_h, gain_w = (max(round(side * gain), 1) / side for side in shape[:2])
    return gain_h, gain_w


def border_before(pad: float) -> int:
    """Return the pixels of a border `pad` that lie left of or above a centred image; an odd one goes behind it.

    >>> border_before(6.0), border_before(7.0)
    (3, 3)
    """
    return round(pad / 2 - 0.1)


def letterbox_geometry(original: Sequence[int], network: Sequence[int]) -> RatioPad:
    """Return the map from an image (h, w) that a letterbox scales and centres in the network input (h, w).

    >>> letterbox_geometry((100, 200), (64, 64))
    ((0.32, 0.32), (0.0, 16.0))
    """
    gains = letterbox_gains(original, network)
    top, left = (border_before(t - round(s * gain)) for s, t, gain in zip(original, network, gains, strict=True))
    return gains, (float(left), float(top))


def scale_boxes(
    img1_shape: Sequence[int],
    boxes: ArrayLike,
    img0_shape: Sequence[int],
    ratio_pad: tuple[Sequence[float], Sequence[float]] | None = None,
    padding: bool = True,
    xywh: bool = False,
) -> ArrayLike:
    """Map boxes in pixels from the network's image (`img1_shape`) back to the original (`img0_shape`), both (h, w).

    `ratio_pad` is ((gain_h, gain_w), (pad_x, pad_y)) of the resize that was done; the two gains differ when the image
    was stretched. Without it, a letterbox with centred borders is assumed. `padding=False` means that the
    boxes do not contain the border. `xywh` says that the boxes are centre and size; only corner boxes are clipped to
    the original image.

    >>> scale_boxes((640, 640), np.array([[0.0, 160.0, 640.0, 480.0]]), (100, 200)).tolist()
    [[0.0, 0.0, 200.0, 100.0]]
    >>> scale_boxes((64, 64), np.array([[16.0, 16.0, 32.0, 64.0]]), (128, 32), ((0.5, 2.0), (0, 0))).tolist()
    [[8.0, 32.0, 16.0, 128.0]]
    """
    gains, pads = letterbox_geometry(img0_shape[:2], img1_shape[:2]) if ratio_pad is None else ratio_pad
    (gain_y, gain_x), (pad_x, pad_y) = (gains[0], gains[-1]), pads if padding else (0.0, 0.0)
    a, b, c, d = _columns(boxes)
    # Sizes (the last two columns of xywh) are not moved by the border.
    size_pad_x, size_pad_y = (0.0, 0.0) if xywh else (pad_x, pad_y)
    scaled = _join(
        ((a - pad_x) / gain_x, (b - pad_y) / gain_y, (c - size_pad_x) / gain_x, (d - size_pad_y) / gain_y), boxes
    )
    return scaled if xywh else clip_boxes(scaled, img0_shape)


def segment2box(segment: _Array, width: int = 640, height: int = 640) -> _Array:
    """Return the xyxy box of a polygon's (n, 2) points, limited to the image; zeros if no point lies in the image.

    >>> segment2box(np.array([[10.0, 10.0], [30.0, 5.0], [20.0, 700.0]])).tolist()
    [10.0, 5.0, 30.0, 10.0]
    """
    x, y = segment[:, 0], segment[:, 1]
    inside = (x >= 0) & (y >= 0) & (x <= width) & (y <= height)
    if not inside.any():
        return np.zeros(4, dtype=segment.dtype)
    x, y = x[inside], y[inside]
    return np.array([x.min(), y.min(), x.max(), y.max()], dtype=segment.dtype)


def segments2boxes(segments: Sequence[_Array]) -> _Array:
    """Return the xywh boxes (n, 4) around polygons of (points, 2) each.

    >>> segments2boxes([np.array([[0.0, 0.0], [4.0, 2.0]])]).tolist()
    [[2.0, 1.0, 4.0, 2.0]]
    >>> segments2boxes([]).shape
    (0, 4)
    """
    corners = [np.concatenate([s.min(0), s.max(0)]) for s in segments]
    return xyxy2xywh(np.array(corners, dtype=np.float32).reshape(-1, 4))  # (n, 4) also when there is none


def resample_segments(segments: Sequence[_Array], n: int = 1000) -> list[_Array]:
    """Return closed polygons resampled to `n` points each, evenly spaced over their vertex index.

    Polygons that already have `n` points come back as they are; the original vertices are kept where `n` allows.

    >>> resample_segments([np.array([[0.0, 0.0], [2.0, 0.0]])], n=3)[0].tolist()
    [[0.0, 0.0], [2.0, 0.0], [0.0, 0.0]]
    """
    return [s if len(s) == n else _resample(s, n) for s in segments]


def _resample(segment: _Array, n: int) -> _Array:
    """Interpolate one closed polygon at `n` positions, its own vertices among them when `n` is large enough."""
    closed = np.concatenate([segment, segment[:1]])
    vertices = np.arange(len(closed))
    if len(closed) < n:
        even = np.linspace(0, len(closed) - 1, n - len(closed))
        positions = np.sort(np.concatenate([even, vertices]))
    else:
        positions = np.linspace(0, len(closed) - 1, n)
    columns = [np.interp(positions, vertices, closed[:, i]) for i in range(2)]
    return np.stack(columns, -1).astype(np.float32)


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Return float32 of half-precision and integer tensors, others as they are: for coordinates in mixed precision."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def constant_like(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    """Return numbers as a tensor [n] in the dtype and on the device of another, without a wait for a GPU."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


def smooth(y: npt.NDArray[np.float64], f: float = 0.05) -> npt.NDArray[np.float64]:
    """Box-filter a curve over a window of the fraction `f` of its length, edges repeated; the length is kept.

    >>> smooth(np.array([0.0, 0.0, 3.0, 0.0, 0.0]), f=0.4).round(3).tolist()
    [0.0, 1.0, 1.0, 1.0, 0.0]
    """
    window = round(len(y) * f * 2) // 2 + 1
    half = window // 2
    padded = np.concatenate([np.full(half, y[0]), y, np.full(half, y[-1])])
    return np.convolve(padded, np.full(window, 1 / window), mode="valid")[: len(y)]


def make_divisible(x: float, divisor: int = 8) -> int:
    """Round up to the next multiple of `divisor`.

    >>> make_divisible(65, 8)
    72
    """
    return math.ceil(x / divisor) * divisor


class Profile:
    """Stopwatch for ``with``: `.dt` holds the last span and `.t` the sum of all spans, in seconds.

    On a CUDA device the queue is drained before each reading, so that the span holds the work and not its launch.
    """

    def __init__(self, t: float = 0.0, device: torch.device | None = None) -> None:
        """Start from `t` accumulated seconds; `device` is the one whose work is measured."""
        self.t = t
        self.dt = 0.0
        self.device = device
        self._start = 0.0

    def __enter__(self) -> Profile:
        """Start a span."""
        self._start = self.time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the span and add it to the sum."""
        self.dt = self.time() - self._start
        self.t += self.dt

    def __str__(self) -> str:
        """Return the elapsed time as a sentence."""
        return f"Elapsed time is {self.t} s"

    def time(self) -> float:
        """Return the clock's reading in seconds, once the device has finished its queue."""
        if self.device is not None and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def convert_torch2numpy_batch(batch: torch.Tensor) -> npt.NDArray[np.uint8]:
    """Turn a batch (B, C, H, W) of floats in 0..1 into images (B, H, W, C) of integers in 0..255."""
    images = (batch.permute(0, 2, 3, 1) * 255).clamp(0, 255).to(torch.uint8)  # (B, H, W, C)
    return np.asarray(images.contiguous().cpu().numpy())


_IN_INTERFACE = {
    "non_max_suppression": "nms",
    **dict.fromkeys(("clip_coords", "scale_coords", "clean_str", "empty_like"), "interface.coordinates"),
}
"""Names that scripts import from here, and the modules that define them."""


if not TYPE_CHECKING:  # a type checker shall see what is missing
    __getattr__ = interface_names(__name__, _IN_INTERFACE)
