"""Changes of colour that leave the boxes alone."""

from __future__ import annotations

import cv2
import numpy as np

from ultralytics.data.augment.base import BaseTransform
from ultralytics.data.images import with_channels
from ultralytics.data.types import Sample


class RandomHSV(BaseTransform):
    """Shift hue and scale saturation and brightness, each by a random gain of up to `hgain`, `sgain`, `vgain`."""

    def __init__(self, hgain: float = 0.5, sgain: float = 0.5, vgain: float = 0.5) -> None:
        self.hgain, self.sgain, self.vgain = float(hgain), float(sgain), float(vgain)

    def __call__(self, labels: Sample) -> Sample:
        """Change the colours of a three-channel image; others stay as they are."""
        image = labels["img"]
        if image.shape[2] != 3 or not (self.hgain or self.sgain or self.vgain):
            return labels
        shift, saturation, value = labels["rng"].uniform(-1, 1, 3) * (self.hgain, self.sgain, self.vgain)
        levels = np.arange(256, dtype=np.float64)
        table_h = ((levels + 180 * shift) % 180).astype(np.uint8)
        table_s = np.clip(levels * (1 + saturation), 0, 255).astype(np.uint8)
        table_v = np.clip(levels * (1 + value), 0, 255).astype(np.uint8)
        table_s[0] = 0  # grey stays grey
        table = np.stack([table_h, table_s, table_v], axis=-1)[None]  # (1, 256, 3)
        hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_BGR2HSV), table)
        labels["img"] = with_channels(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR))
        return labels
