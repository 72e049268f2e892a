"""A small detector with an SHSA row in its backbone."""

from __future__ import annotations

from typing import Any

from tests.engine.tiny import TINY

WITH_SHSA: dict[str, Any] = {
    **TINY,
    "backbone": [*TINY["backbone"][:3], [-1, 1, "SHSA", [4, 8]], *TINY["backbone"][3:]],
    "head": [TINY["head"][0], TINY["head"][1], [[3, 4, 7], 1, "RTDETRDecoder", ["nc", 32, 30, 4, 4, 2, 64]]],
}
