"""Golden cases of the attention rows, encoder layers and box losses; `comparison.check` runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MODULES = "ultralytics.nn.modules"
BOX_LOSS = "ultralytics.models.utils.box_losses:box_loss"


def load_block_cases(*, losses: bool) -> list[dict[str, Any]]:
    """Return the cases of the losses, or of the blocks, with the classes of this package."""
    text = (Path(__file__).resolve().parent / "cases_c.json").read_text(encoding="utf-8")
    cases: list[dict[str, Any]] = json.loads(text)["cases"]
    chosen = [case for case in cases if (case["class"] == "blocks:box_loss") == losses]
    for case in chosen:
        case["class"] = BOX_LOSS if losses else case["class"].replace("blocks:", f"{MODULES}:")
    return chosen
