"""A loaded model as its callers see it, and the checks that all exported files share.

Shapes: B batch, n images that a fixed graph takes at once, C channels, H x W input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ultralytics.nn.backends.metadata import ExportMetadata
from ultralytics.nn.tasks import BaseModel
from ultralytics.utils.errors import ConfigError


@dataclass(frozen=True)
class Runner:
    """A loaded model: its forward, and what callers need to know about it."""

    forward: Callable[..., Any]
    names: dict[int, str]
    stride: int
    task: str = "detect"
    imgsz: int | Sequence[int] | None = None
    channels: int = 3
    module: BaseModel | None = None
    metadata: ExportMetadata | None = None


def exported_runner(call: Callable[[Tensor], Tensor], metadata: ExportMetadata, origin: str) -> Runner:
    """Wrap the call of an exported graph, images (B, C, H, W) to its output, with the checks of `ExportedForward`."""
    return Runner(
        forward=ExportedForward(call, metadata, origin),
        names=metadata.names,
        stride=metadata.stride,
        task=metadata.task,
        imgsz=list(metadata.imgsz) if metadata.imgsz[0] != metadata.imgsz[1] else metadata.imgsz[0],
        channels=metadata.channels,
        metadata=metadata,
    )


class ExportedForward:
    """Call an exported graph with any number of images.

    A graph of a fixed batch gets n images at a time; the last part is padded with zeros, whose output is dropped.
    Raises ConfigError for images of a size that the file does not take, and for `embed`.
    """

    def __init__(self, call: Callable[[Tensor], Tensor], metadata: ExportMetadata, origin: str) -> None:
        self.call = call
        self.metadata = metadata
        self.origin = origin

    def __call__(self, im: Tensor, embed: Sequence[int] | None = None) -> Tensor:
        """Return the output for images (B, C, H, W) in 0..1, on their device."""
        if embed is not None:
            raise ConfigError(f"embed: {self.origin} gives detections only", "use the weights file (.pt)")
        self._check(im)
        if self.metadata.dynamic or len(im) == self.metadata.batch:
            return self.call(im.float()).to(im.device)
        parts = [self._padded(part.float()) for part in im.split(self.metadata.batch)]
        return torch.cat(parts).to(im.device)

    def _padded(self, part: Tensor) -> Tensor:
        """Run at most n images through a graph for exactly n."""
        missing = self.metadata.batch - len(part)
        if missing:
            part = torch.cat((part, part.new_zeros((missing, *part.shape[1:]))))
        return self.call(part)[: self.metadata.batch - missing]

    def _check(self, im: Tensor) -> None:
        metadata, size = self.metadata, tuple(im.shape[2:])
        if not metadata.dynamic and size != metadata.imgsz:
            raise ConfigError(
                f"imgsz={list(size)}: {self.origin} takes {list(metadata.imgsz)} only",
                f"give imgsz={list(metadata.imgsz)}, or export with dynamic=True",
            )
        if any(side % metadata.stride for side in size):
            raise ConfigError(f"imgsz={list(size)}: {self.origin} takes multiples of {metadata.stride} px")
