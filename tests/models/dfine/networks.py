"""Small networks with the heads of D-FINE and RT-DETRv2."""

from __future__ import annotations

from typing import Any

from tests.engine.tiny import TINY

DFINE: dict[str, Any] = {
    **TINY,
    "head": [*TINY["head"][:-1], [[2, 3, 6], 1, "DFINEDecoder", ["nc", 32, 30, [4, 4, 4], 4, 2, 64, 16, 4.0]]],
}
FINE: dict[str, Any] = {
    **TINY,
    "head": [*TINY["head"][:-1], [[2, 3, 6], 1, "DFINEDecoder", ["nc", 32, 30, [3, 6, 3], 4, 2, 64, 16, 4.0]]],
}
SECOND: dict[str, Any] = {
    **TINY,
    "head": [*TINY["head"][:-1], [[2, 3, 6], 1, "RTDETRDecoderv2", ["nc", 32, 30, [4, 2, 1], 4, 2, 64]]],
}
