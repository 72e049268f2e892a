"""What the builder has found out about each row before the real modules are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ultralytics.nn.build.spec import LayerSpec
from ultralytics.nn.registry import Entry

PROBE_SIZE = 640
"""Side of the probe image; on the meta device its size costs nothing."""


@dataclass(frozen=True)
class PlannedLayer:
    """One row, resolved: the class, the constructor arguments of each copy, and what the probe image gave.

    `copies` has one entry for each chained copy, all with the same `kwargs`; `output` is the meta output for a probe
    image of side `probe`, of a one-row backbone the list of its maps.
    """

    spec: LayerSpec
    entry: Entry
    copies: tuple[tuple[Any, ...], ...]
    repeats: int
    out_channels: int
    output: object
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    probe: int = PROBE_SIZE

    def construct(self) -> nn.Module:
        """Make the module on the current default device."""
        copies = [self.entry.cls(*args, **self.kwargs) for args in self.copies]
        return copies[0] if len(copies) == 1 else nn.Sequential(*copies)
