"""Boxes or class probabilities of one image, as tensor or array, with its box formats.

Shapes: N boxes, nc classes. `data` is (N, 6) ``x1 y1 x2 y2 confidence class`` or (N, 7) ``x1 y1 x2 y2 track_id
confidence class``, in pixels of the original image.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ultralytics.utils.errors import ConfigError
from ultralytics.utils.ops import xyxy2xywh

Data: TypeAlias = Tensor | npt.NDArray[Any]
Self = TypeVar("Self", bound="BaseTensor")


class BaseTensor:
    """A tensor or array with the size of its image; moving or indexing gives a new object of the same class."""

    def __init__(self, data: Data, orig_shape: tuple[int, int]) -> None:
        """Hold `data`; `orig_shape` is (height, width) of the original image."""
        if not isinstance(data, torch.Tensor | np.ndarray):
            raise TypeError(f"{type(self).__name__} data must be a tensor or an array, not {type(data).__name__}")
        self.data = data
        self.orig_shape = orig_shape

    def _with(self: Self, data: Data) -> Self:
        """Return an object of the same class around other data."""
        return type(self)(data, self.orig_shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the data."""
        return tuple(self.data.shape)

    def cpu(self: Self) -> Self:
        """Return a copy in host memory (arrays are there already)."""
        return self._with(self.data.cpu()) if isinstance(self.data, Tensor) else self

    def numpy(self: Self) -> Self:
        """Return a copy as a NumPy array."""
        return self._with(self.data.detach().cpu().numpy()) if isinstance(self.data, Tensor) else self

    def cuda(self: Self) -> Self:
        """Return a copy on the current CUDA device."""
        return self._with(torch.as_tensor(self.data).cuda())

    def to(self: Self, *args: Any, **kwargs: Any) -> Self:
        """Return a copy as a tensor moved by `torch.Tensor.to`."""
        return self._with(torch.as_tensor(self.data).to(*args, **kwargs))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.data)

    def __getitem__(self: Self, index: Any) -> Self:
        """Return the chosen rows: an integer, slice, list, mask or index tensor."""
        return self._with(self.data[index])

    def __iter__(self: Self) -> Iterator[Self]:
        """Go through the rows, each as an object of its own."""
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        """Show class, size and data."""
        return f"{type(self).__name__}(shape={self.shape}, orig_shape={self.orig_shape},\n{self.data!r})"


class Boxes(BaseTensor):
    """Detected boxes.

    >>> boxes = Boxes(np.array([[0.0, 0.0, 50.0, 20.0, 0.9, 2.0]]), orig_shape=(100, 200))
    >>> boxes.xywhn.tolist(), boxes.cls.tolist(), boxes.id
    ([[0.125, 0.1, 0.25, 0.2]], [2.0], None)
    """

    def __init__(self, boxes: Data, orig_shape: tuple[int, int]) -> None:
        """Take (N, 6) or (N, 7) values, or one row of them.

        Raises:
            ConfigError: the rows have another width.
        """
        super().__init__(boxes, orig_shape)
        if boxes.ndim == 1:
            self.data = boxes[None]
        if self.data.ndim != 2 or self.data.shape[-1] not in (6, 7):
            raise ConfigError(f"boxes need 6 or 7 values a row (x1 y1 x2 y2 [id] conf cls), got {tuple(boxes.shape)}")
        self.is_track = self.data.shape[-1] == 7

    @property
    def xyxy(self) -> Data:
        """Corners in pixels, (N, 4)."""
        return self.data[:, :4]

    @property
    def conf(self) -> Data:
        """Confidences, (N,)."""
        return self.data[:, -2]

    @property
    def cls(self) -> Data:
        """Class ids as floats, (N,)."""
        return self.data[:, -1]

    @property
    def id(self) -> Data | None:
        """Track ids, (N,); None unless the boxes are tracked."""
        return self.data[:, -3] if self.is_track else None

    @cached_property
    def xywh(self) -> Data:
        """Centre and size in pixels, (N, 4)."""
        if isinstance(self.data, Tensor):
            return xyxy2xywh(self.data[:, :4])
        return xyxy2xywh(self.data[:, :4])

    @cached_property
    def xyxyn(self) -> Data:
        """Corners divided by the image's width and height, (N, 4)."""
        return self._normalised(self.xyxy)

    @cached_property
    def xywhn(self) -> Data:
        """Centre and size divided by the image's width and height, (N, 4)."""
        return self._normalised(self.xywh)

    def _normalised(self, boxes: Data) -> Data:
        """Divide the columns by width, height, width, height."""
        h, w = self.orig_shape[:2]
        if isinstance(boxes, Tensor):
            return boxes / boxes.new_tensor([w, h, w, h])
        return boxes / np.array([w, h, w, h], dtype=boxes.dtype)


class Probs(BaseTensor):
    """Probabilities of the classes of one image, (nc,).

    >>> probs = Probs(np.array([0.1, 0.7, 0.2]), orig_shape=(100, 200))
    >>> probs.top1, probs.top5, float(probs.top1conf)
    (1, [1, 2, 0], 0.7)
    """

    def __init__(self, probs: Data, orig_shape: tuple[int, int] | None = None) -> None:
        """Take (nc,) values; the size of the image is not used.

        Raises:
            ConfigError: not one row.
        """
        super().__init__(probs, orig_shape or (0, 0))
        if probs.ndim != 1:
            raise ConfigError(f"probs need one value for each class, got the shape {tuple(probs.shape)}")

    @cached_property
    def top5(self) -> list[int]:
        """Class ids of the five highest probabilities, or of all if there are fewer; best first."""
        data = np.asarray(self.numpy().data)
        return [int(i) for i in np.argsort(-data, kind="stable")[:5]]

    @property
    def top1(self) -> int:
        """Class id of the highest probability."""
        return self.top5[0]

    @property
    def top1conf(self) -> Data:
        """The highest probability."""
        return self.data[self.top1]

    @property
    def top5conf(self) -> Data:
        """The probabilities of `top5`."""
        return self.data[self.top5]
