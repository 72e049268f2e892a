"""Input projections of a head: all levels to one width, and further levels by strided convolutions.

Shapes: B batch, C channels, H x W map, D hidden width, N tokens of all levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.utils import contiguous_gradient
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_utils import fuse_conv_and_bn

__all__ = ("LevelProjections",)


class LevelProjections(nn.ModuleList):
    """Projections of feature maps to tokens of width D.

    Args:
        ch: Channels of each input.
        hd: Width D.
        levels: Levels that come out; those beyond the inputs come from the last input by strided 3x3 convolutions.
        skip_equal: Leave inputs of width D as they are.

    Raises:
        ConfigError: Fewer levels than inputs.
    """

    def __init__(self, ch: Sequence[int], hd: int, levels: int, skip_equal: bool = False) -> None:
        if levels < len(ch):
            raise ConfigError(
                f"the head has {len(ch)} inputs, but points for {levels} levels; name those of all levels"
            )
        made = [nn.Identity() if skip_equal and c == hd else _projection(c, hd, 1) for c in ch]
        widths = [ch[-1], *[hd] * (levels - len(ch))]
        super().__init__([*made, *(_projection(c, hd, 3) for c in widths[: levels - len(ch)])])
        self.inputs = len(ch)

    def forward(self, x: Sequence[Tensor]) -> tuple[Tensor, list[list[int]]]:
        """Return the tokens (B, N, D) of the maps, one level after another, and the (H, W) of each level."""
        own, further = list(self)[: self.inputs], list(self)[self.inputs :]
        maps = [project(level) for project, level in zip(own, x, strict=True)]
        below = x[-1]
        for project in further:
            below = project(below)
            maps.append(below)
        shapes = [list(level.shape[2:]) for level in maps]
        return torch.cat([contiguous_gradient(level).flatten(2).transpose(1, 2) for level in maps], 1), shapes

    def convolutions(self) -> list[nn.Module]:
        """Return the convolutions."""
        return [m for m in self.modules() if isinstance(m, nn.Conv2d)]

    def fuse(self) -> LevelProjections:
        """Fold the BatchNorms, in place."""
        for projection in self:
            if isinstance(projection, nn.Sequential) and len(projection) > 1:
                conv, norm = projection
                projection[0] = fuse_conv_and_bn(cast("nn.Conv2d", conv), cast("nn.BatchNorm2d", norm))
                del projection[1]
        return self


def _projection(c1: int, c2: int, k: int) -> nn.Sequential:
    conv = nn.Conv2d(c1, c2, k, 2 if k > 1 else 1, k // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c2))
