"""The last step: from a sample to the tensors that the loader collates."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ultralytics.data.augment.base import BaseTransform, chance
from ultralytics.data.types import Sample
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.instance import BoxFormat

KEPT = ("im_file", "ori_shape", "resized_shape", "ratio_pad", "truth")


class Format(BaseTransform):
    """Turn a sample into tensors.

    `img` uint8 (C, H, W) in RGB order, BGR with probability `bgr`; `cls` float32 (N, 1); `bboxes` float32 (N, 4) in
    `bbox_format`, as fractions of the image if `normalize`; `batch_idx` float32 (N,) of zeros, filled by the collation.
    `mask_ratio` and `mask_overlap` have no effect: there are no masks.

    Raises ConfigError for `return_mask`, `return_keypoint` or `return_obb`.
    """

    def __init__(
        self,
        bbox_format: BoxFormat = "xywh",
        normalize: bool = True,
        return_mask: bool = False,
        return_keypoint: bool = False,
        return_obb: bool = False,
        mask_ratio: int = 4,
        mask_overlap: bool = True,
        batch_idx: bool = True,
        bgr: float = 0.0,
    ) -> None:
        if return_mask or return_keypoint or return_obb:
            raise ConfigError("return_mask, return_keypoint, return_obb: samples hold boxes only", "leave them out")
        self.bbox_format, self.normalize, self.batch_idx, self.bgr = bbox_format, normalize, batch_idx, bgr

    def __call__(self, labels: Sample) -> dict[str, Any]:
        """Return the sample's tensors and the keys that describe its origin."""
        image, instances = labels["img"], labels["instances"]
        h, w = image.shape[:2]
        instances.convert_bbox(self.bbox_format)
        if self.normalize:
            instances.normalize(w, h)
        else:
            instances.denormalize(w, h)
        as_bgr = self.bgr > 0 and chance(labels["rng"], self.bgr)
        chw = image.transpose(2, 0, 1)  # (C, H, W)
        if image.shape[2] == 3 and not as_bgr:
            chw = chw[::-1]
        result: dict[str, Any] = {key: labels[key] for key in KEPT if key in labels}  # type: ignore[literal-required]
        result["img"] = torch.from_numpy(np.ascontiguousarray(chw))
        result["cls"] = torch.from_numpy(labels["cls"].astype(np.float32).reshape(-1, 1))  # (N, 1)
        result["bboxes"] = torch.from_numpy(np.ascontiguousarray(instances.bboxes, np.float32))
        if self.batch_idx:
            result["batch_idx"] = torch.zeros(len(instances))
        return result
