"""Arguments of a run without chance: no augmentation, no denoising, SGD; for runs that are split in different ways."""

from __future__ import annotations

from typing import Any

from tests.engine.tiny import IMAGES

NO_DENOISING: list[Any] = [0.0, None, -1, 0]
PLAIN: dict[str, Any] = {
    **{
        "imgsz": 64,
        "batch": 8,
        "nbs": 1,
        "workers": 0,
        "device": "cpu",
        "amp": False,
        "plots": False,
        "verbose": False,
    },
    **{"mosaic": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "scale": 0.0, "translate": 0.0, "fliplr": 0.0},
    **{"optimizer": "SGD", "lr0": 0.01, "momentum": 0.9, "warmup_epochs": 0.0, "recipe": "small", "epochs": 4},
    **{"sync_bn": True, "ema_warmup": 5.0, "loss": "vfl"},
    "channels_last": False,  # rounds otherwise, and these plain images have many equally good tokens
}
EMPTY = IMAGES[2]
