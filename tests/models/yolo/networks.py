"""Small networks with the heads of the YOLO family, and an image of noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ultralytics import YOLO

V8: dict[str, Any] = {
    "nc": 3,
    "backbone": [
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "C2f", [16, True]],
        [-1, 1, "Conv", [16, 3, 2]],  # 3: P3/8
        [-1, 1, "Conv", [16, 3, 2]],  # 4: P4/16
        [-1, 1, "SPPF", [16, 5]],
    ],
    "head": [
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [[-1, 3], 1, "Concat", [1]],
        [-1, 1, "C2f", [16]],
        [[8, 5], 1, "Detect", ["nc"]],
    ],
    "reg_max": 8,
}
V26: dict[str, Any] = {**V8, "end2end": True, "reg_max": 1}
DUAL: dict[str, Any] = {**V8, "end2end": True}
NOISE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)


def spread(yaml: dict[str, Any]) -> YOLO:
    """A network whose scores and boxes are spread, and whose branches differ."""
    model = YOLO(yaml)
    torch.manual_seed(3)
    for module in model.model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.requires_grad:
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
    for boxes, scores in model.model.head.branches():
        for tower in (*boxes, *scores):
            nn.init.normal_(tower[-1].weight, std=0.7)
            nn.init.zeros_(tower[-1].bias)
    return model
