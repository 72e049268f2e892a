"""Random detectors of `transformers` in its own format, with what they answer on noise.

`random_models.py '{"out": FOLDER, "size": "r18", "imgsz": 320}'` writes `model.safetensors` and `answers.npz` (image,
logits, boxes) of RT-DETRv2; with `"config": FOLDER` in place of `size` the model is what `config.json` there describes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForObjectDetection, RTDetrResNetConfig, RTDetrV2Config

BASIC = {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512]}
DEEP = {"layer_type": "bottleneck", "hidden_sizes": [256, 512, 1024, 2048]}
SMALL = {"encoder_in_channels": [128, 256, 512], "hidden_expansion": 0.5}
WIDE = {"encoder_hidden_dim": 384, "encoder_ffn_dim": 2048, "decoder_in_channels": [384, 384, 384]}
SIZES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "r18": ({**BASIC, "depths": [2, 2, 2, 2]}, {**SMALL, "decoder_layers": 3}),
    "r34": ({**BASIC, "depths": [3, 4, 6, 3]}, {**SMALL, "decoder_layers": 4}),
    "r50-m": ({**DEEP, "depths": [3, 4, 6, 3]}, {"hidden_expansion": 0.5}),
    "r50": ({**DEEP, "depths": [3, 4, 6, 3]}, {}),
    "r101": ({**DEEP, "depths": [3, 4, 23, 3]}, WIDE),
}
"""Backbone and detector of each size, where they differ from the defaults of the library."""


KEPT = ("points_scale", "reg_scale", "decoder.up")
"""Endings of constants that a file holds as tensors: of the sampling points and of the distributions of D-FINE."""


@torch.no_grad()
def fill(model: torch.nn.Module) -> None:
    """Give all tensors random values under which features neither fade nor grow, and scores are spread."""
    noise = torch.Generator().manual_seed(0)
    for key, value in model.state_dict().items():
        if not value.is_floating_point() or key.endswith(KEPT):
            continue
        random = torch.randn(value.shape, generator=noise)
        if key.endswith("running_var"):
            value.copy_(random.abs().clamp(0.5, 1.5))
        elif value.dim() > 1:
            value.copy_(random * (1.2 if value.dim() == 4 else 1.0) * value[0].numel() ** -0.5)
        else:
            value.copy_(0.1 * random + float(key.endswith(("weight", "lab.scale"))))


def config_of(size: str) -> Any:
    """The configuration of an RT-DETRv2 of a size."""
    backbone, detector = SIZES[size]
    resnet = RTDetrResNetConfig(**backbone, out_features=["stage2", "stage3", "stage4"])
    return RTDetrV2Config(backbone_config=resnet, num_labels=80, **detector)


def make(out: str, imgsz: int, size: str = "", config: str = "") -> None:
    """Build, fill, run and save one model."""
    found = AutoConfig.from_pretrained(config, local_files_only=True) if config else config_of(size)
    model = AutoModelForObjectDetection.from_config(found).eval()
    fill(model)
    image = torch.rand(2, 3, imgsz, imgsz, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        answer = model(pixel_values=image)
    model.save_pretrained(out)
    arrays = {"image": image, "logits": answer.logits, "boxes": answer.pred_boxes}
    np.savez(Path(out) / "answers.npz", **{name: value.numpy() for name, value in arrays.items()})


if __name__ == "__main__":
    make(**json.loads(sys.argv[1]))
