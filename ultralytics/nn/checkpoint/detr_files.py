"""Files of D-FINE, DEIM, DEIMv2, RT-DETRv2 and v4: which stock model a published state dict is of, its tensors here.

D-FINE and DEIM of one size have the same tensors and differ in an activation only, so the name of a file, or the
network that takes the weights, decides between them. RT-DETRv4 is DEIM with a projection that only its distillation
uses; the projection is left out here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.nn.checkpoint.detr_names import key_roles, own_state
from ultralytics.nn.checkpoint.transformers_names import from_transformers

__all__ = ("add_batch_counters", "published_record", "published_state", "stock_yaml")

PUBLISHED_EPS = 1e-5  # of the batch norms of these projects
_SCORE, _PROJECTION = "decoder.enc_score_head.weight", "encoder.input_proj.{}.conv.weight"
_FINE = {(128, 512): "n", (256, 256): "s", (256, 384): "m", (256, 512): "l", (384, 512): "x"}
_SECOND = {
    **{(64, 256): "atto", (96, 512): "femto", (112, 512): "pico", (128, 512): "n"},
    **{(256, 384): "hgnetv2-m", (256, 512): "hgnetv2-l", (384, 512): "hgnetv2-x"},
}
_WIDE = {(256, 512): "hgnetv2-l", (384, 512): "hgnetv2-x", (512, 512): "hgnetv2-h"}
_VIT = {192: "s", 256: "m"}
_DISTILLATION = "encoder.feature_projector."  # of RT-DETRv4, used in training only


def published_state(state: Mapping[str, object]) -> dict[str, Tensor] | None:
    """Return the tensors of a state dict under published names, from those of `transformers` too; None for others."""
    tensors = {str(k): v for k, v in state.items() if isinstance(v, Tensor)}
    if _SCORE in tensors and any(key.startswith("encoder.") for key in tensors):
        return tensors
    return from_transformers(tensors)


def stock_yaml(state: Mapping[str, Tensor], name: str = "") -> str | None:
    """Return the model YAML that a published state dict is of, None for RT-DETR and where no stock model fits.

    Args:
        state: Tensors under published names.
        name: Name of the file, which distinguishes DEIM from D-FINE.
    """
    shape = _shape(state, 0)
    if any(key.startswith("backbone.dinov3.") for key in state):
        size = _VIT.get(state["backbone.dinov3._model.cls_token"].shape[-1])
        return f"deimv2-{size}.yaml" if size else None
    if not any(key.startswith("backbone.stages.") for key in state):
        return _resnet_yaml(state, shape)
    if any(".swish_ffn." in key for key in state):
        size = "hgnetv2-s" if shape is None else _SECOND.get(shape)
        return f"deimv2-{size}.yaml" if size else None
    if "decoder.pre_bbox_head.layers.0.weight" not in state:
        return f"rtdetrv2-{_WIDE[shape]}.yaml" if shape in _WIDE else None
    distilled = any(key.startswith(_DISTILLATION) for key in state)
    family = "deim" if distilled or "deim" in name.lower() else "dfine"
    return f"{family}-{_FINE[shape]}.yaml" if shape in _FINE else None


def _resnet_yaml(state: Mapping[str, Tensor], shape: tuple[int, int] | None) -> str | None:
    """DEIM's models on ResNet, whose query positions have three layers; others are of RT-DETR's own table."""
    if "decoder.query_pos_head.layers.2.weight" not in state:
        return None
    deep = sum(re.fullmatch(r"decoder\.dec_score_head\.\d+\.bias", key) is not None for key in state)
    sizes = {((256, 128), 3): "r18", ((256, 128), 4): "r34", ((256, 512), 3): "r50-m", ((256, 512), 6): "r50"}
    sizes[(384, 512), 6] = "r101"
    size = None if shape is None else sizes.get((shape, deep))
    return f"deim-rtdetrv2-{size}.yaml" if size else None


def _shape(state: Mapping[str, Tensor], level: int) -> tuple[int, int] | None:
    """Width of the encoder and channels of a level of the backbone; None where no projection is needed."""
    kernel = state.get(_PROJECTION.format(level))
    return None if kernel is None else (int(kernel.shape[0]), int(kernel.shape[1]))


def add_batch_counters(state: dict[str, Tensor]) -> None:
    """Give frozen batch norms the counter that ours have."""
    for key in [k for k in state if k.endswith(".running_var")]:
        state.setdefault(key.removesuffix("running_var") + "num_batches_tracked", torch.tensor(0))


def published_record(state: Mapping[str, Tensor], yaml: Mapping[str, object] | str) -> dict[str, Any]:
    """Return state dict, batch-norm epsilon and YAML of a published state dict, under the keys of a model YAML."""
    deployed = {key: value for key, value in state.items() if not key.startswith(_DISTILLATION)}
    own, unknown = own_state(deployed, key_roles(yaml))
    add_batch_counters(own)
    data = yaml if isinstance(yaml, Mapping) else load_model_yaml(yaml).data
    return {"state_dict": own, "bn_eps": PUBLISHED_EPS, "yaml": dict(data), "unknown": unknown}
