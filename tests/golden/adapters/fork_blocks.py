"""Blocks of ours with what the code behind the golden numbers does and ours does not, for those numbers only.

* C2f_DySnakeConv: no gradient reaches the offsets of the two end places of a snake, as in `DySnakeConvFrozen`.
* AIFI, AIFI_RepBN: the position table is laid out for the transposed map; on square maps this makes no difference.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ultralytics.nn import modules
from ultralytics.nn.modules.convolutions.snake import DSConv


class C2f_DySnakeConv(modules.C2f_DySnakeConv):
    """C2f of snakes whose ends do not learn."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for module in self.modules():
            if isinstance(module, DSConv):
                module.frozen_ends = True


class _TransposedPositions:
    def _positions(self, w: int, h: int, dim: int, like: Tensor) -> Tensor:
        return modules.AIFI.build_2d_sincos_position_embedding(h, w, dim, like=like)


class AIFI(_TransposedPositions, modules.AIFI):
    """AIFI with the fork's positions."""


class AIFI_RepBN(_TransposedPositions, modules.AIFI_RepBN):
    """AIFI_RepBN with the fork's positions."""
