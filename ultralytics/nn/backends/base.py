"""What a loaded model is to its callers, and the checks that all exported files share.

Legend: B images of a call, N images that a fixed graph takes at once, C channels, H, W height and width of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ultralytics.nn.backends.metadata import Facts
from ultralytics.nn.tasks import BaseModel
from ultralytics.utils.errors import ConfigError


@dataclass(frozen=True)
class Runner:
    """A loaded model: its forward, and what callers must know of it."""

    forward: Callable[..., Any]
    names: dict[int, str]
    stride: int
    task: str = "detect"
    imgsz: int | Sequence[int] | None = None
    channels: int = 3
    module: BaseModel | None = None
    facts: Facts | None = None


def exported_runner(call: Callable[[Tensor], Tensor], facts: Facts, origin: str) -> Runner:
    """Wrap the call of an exported graph, images (B, C, H, W) to its output, with the checks of `ExportedForward`."""
    return Runner(
        forward=ExportedForward(call, facts, origin),
        names=facts.names,
        stride=facts.stride,
        task=facts.task,
        imgsz=list(facts.imgsz) if facts.imgsz[0] != facts.imgsz[1] else facts.imgsz[0],
        channels=facts.channels,
        facts=facts,
    )


class ExportedForward:
    """Call an exported graph with any number of images.

    A graph of a fixed batch gets N images at a time, the last ones filled up with zeros, whose answers are left out.
    Raises ConfigError for images of a size that the file does not take, and for `embed`.
    """

    def __init__(self, call: Callable[[Tensor], Tensor], facts: Facts, origin: str) -> None:
        self.call = call
        self.facts = facts
        self.origin = origin

    def __call__(self, im: Tensor, embed: Sequence[int] | None = None) -> Tensor:
        """Return the output for images (B, C, H, W) in 0..1, on their device."""
        if embed is not None:
            raise ConfigError(f"embed: {self.origin} gives detections only", "use the weights file (.pt)")
        self._check(im)
        if self.facts.dynamic or len(im) == self.facts.batch:
            return self.call(im.float()).to(im.device)
        parts = [self._padded(part.float()) for part in im.split(self.facts.batch)]
        return torch.cat(parts).to(im.device)

    def _padded(self, part: Tensor) -> Tensor:
        """Run at most N images through a graph for exactly N."""
        missing = self.facts.batch - len(part)
        if missing:
            part = torch.cat((part, part.new_zeros((missing, *part.shape[1:]))))
        return self.call(part)[: self.facts.batch - missing]

    def _check(self, im: Tensor) -> None:
        facts, size = self.facts, tuple(im.shape[2:])
        if not facts.dynamic and size != facts.imgsz:
            raise ConfigError(
                f"imgsz={list(size)}: {self.origin} takes {list(facts.imgsz)} only",
                f"give imgsz={list(facts.imgsz)}, or export with dynamic=True",
            )
        if any(side % facts.stride for side in size):
            raise ConfigError(f"imgsz={list(size)}: {self.origin} takes multiples of {facts.stride} px")
