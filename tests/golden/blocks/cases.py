"""Golden cases of the published blocks; `comparison.check` runs them.

Files: `a` ResNet-D stages, resampling, fusion; `b` convolutions; `c` attention rows, encoder layers and box losses.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(__file__).resolve().parent
BOX_LOSS = "blocks:box_loss"


def load_block_cases(file: Literal["a", "b", "c"]) -> list[dict[str, Any]]:
    """Return the cases of a file; their arrays are found from `tests/golden`."""
    text = (FOLDER / f"cases_{file}.json").read_text(encoding="utf-8")
    cases: list[dict[str, Any]] = json.loads(text)["cases"]
    return [{**case, "file": f"blocks/blocks_{file}.npz"} for case in cases]
