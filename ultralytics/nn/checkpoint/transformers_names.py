"""Names of the tensors of D-FINE and RT-DETRv2 as `transformers` stores them, from and to those of their projects.

The names are those of `model.safetensors`, of models built at random by transformers 5.24. A rule is written as in
`detr_names`: `#` stands for a number and `*` for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ultralytics.nn.checkpoint.detr_names import Rules, swap_parts, translate

__all__ = ("from_transformers", "to_transformers")

_STAGE, _THEIR_STAGE = "backbone.res_layers.#.blocks.#.", "model.backbone.model.encoder.stages.#.layers.#."
_BACKBONE: Rules = (  # the first that fits counts: their names of a ResNet would fit those of HGNetv2 too
    *((f"backbone.conv1.conv1_{k}.*", f"model.backbone.model.embedder.embedder.{k - 1}.*") for k in (1, 2, 3)),
    *((f"{_STAGE}branch2{c}.*", f"{_THEIR_STAGE}layer.{k}.*") for k, c in enumerate("abc")),
    *((f"{_STAGE}short.conv.{p}.*", f"{_THEIR_STAGE}shortcut.1.{p}.*") for p in ("conv", "norm")),
    *((f"{_STAGE}short.{p}.*", f"{_THEIR_STAGE}shortcut.{p}.*") for p in ("conv", "norm")),
    ("backbone.stem.*", "model.backbone.model.embedder.*"),
    ("backbone.stages.*", "model.backbone.model.encoder.stages.*"),
)
_PARTS = {"cv1": "conv1", "cv2.0": "csp_rep1", "cv2.1": "conv2", "cv3.0": "csp_rep2", "cv3.1": "conv3", "cv4": "conv4"}
_BLOCKS: Rules = tuple(
    (f"encoder.{block}_blocks.#.{ours}.*", f"model.encoder.{block}_blocks.#.{theirs}.*")
    for block in ("fpn", "pan")
    for ours, theirs in _PARTS.items()
)
_LAYER, _ATTENTION = "decoder.decoder.layers.#.", "encoder.encoder.#.layers.#."
_RULES: Rules = (
    ("encoder.input_proj.#.conv.*", "model.encoder_input_proj.#.0.*"),
    ("encoder.input_proj.#.norm.*", "model.encoder_input_proj.#.1.*"),
    (f"{_ATTENTION}norm1.*", f"model.{_ATTENTION}self_attn_layer_norm.*"),
    (f"{_ATTENTION}norm2.*", f"model.{_ATTENTION}final_layer_norm.*"),
    (f"{_ATTENTION}linear#.*", f"model.{_ATTENTION}fc#.*"),
    *_BLOCKS,
    ("encoder.downsample_convs.#.0.cv#.*", "model.encoder.downsample_convs.#.conv#.*"),
    ("encoder.*", "model.encoder.*"),
    (f"{_LAYER}norm1.*", "model.decoder.layers.#.self_attn_layer_norm.*"),
    (f"{_LAYER}norm2.*", "model.decoder.layers.#.encoder_attn_layer_norm.*"),
    (f"{_LAYER}norm3.*", "model.decoder.layers.#.final_layer_norm.*"),
    (f"{_LAYER}cross_attn.*", "model.decoder.layers.#.encoder_attn.*"),
    (f"{_LAYER}linear#.*", "model.decoder.layers.#.fc#.*"),
    ("decoder.dec_score_head.*", "model.decoder.class_embed.*"),
    ("decoder.dec_bbox_head.*", "model.decoder.bbox_embed.*"),
    *((f"decoder.{name}.*", f"model.decoder.{name}.*") for name in ("pre_bbox_head", "query_pos_head")),
    ("decoder.decoder.*", "model.decoder.*"),
    ("decoder.input_proj.#.conv.*", "model.decoder_input_proj.#.0.*"),
    ("decoder.input_proj.#.norm.*", "model.decoder_input_proj.#.1.*"),
    ("decoder.enc_output.proj.*", "model.enc_output.0.*"),
    ("decoder.enc_output.norm.*", "model.enc_output.1.*"),
    ("decoder.*", "model.*"),
)
_SPLIT = re.compile(r"(.+\.self_attn)\.in_proj_(weight|bias)")
_PIECE = re.compile(r"(.+\.self_attn)\.([qkv])_proj\.(weight|bias)")
_REVERSED: Rules = tuple((theirs, ours) for ours, theirs in _RULES)
_REVERSED_SECOND: Rules = tuple((theirs, ours) for ours, theirs in _RULES if (ours, theirs) not in _BLOCKS)
"""Those of RT-DETRv2, whose fusion blocks have a `conv1` of their own."""
_BACKBONE_REVERSED: Rules = tuple((theirs, ours) for ours, theirs in _BACKBONE)


def _theirs(name: str) -> str:
    """The name in `transformers` of a published name."""
    if not name.startswith("backbone."):
        return translate(name, _RULES)
    prefix, rest = "model.backbone.model.", translate(name, _BACKBONE).removeprefix("model.backbone.model.")
    for ours, long in (("conv", "convolution"), ("bn", "normalization"), ("norm", "normalization")):
        rest = swap_parts(rest, ours, long)
    return prefix + rest


def _ours(name: str, fine: bool) -> str:
    """The published name of a name in `transformers`, in a model of D-FINE (`fine`) or RT-DETRv2."""
    if not name.startswith("model.backbone."):
        return translate(name, _REVERSED if fine else _REVERSED_SECOND)
    norm = "norm" if re.search(r"\.(embedder\.embedder|layers\.\d+\.(layer|shortcut))\.", name) else "bn"
    for ours, long in (("conv", "convolution"), (norm, "normalization")):
        name = swap_parts(name, long, ours)
    return translate(name, _BACKBONE_REVERSED)


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return a state dict of `transformers` under published names; None for one that is not of D-FINE or RT-DETRv2."""
    keys = state.keys()
    fine = "model.decoder.pre_bbox_head.layers.0.weight" in keys
    if not (fine or any(key.endswith(".encoder_attn.n_points_scale") for key in keys)):
        return None
    found: dict[str, Tensor] = {}
    pieces: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        piece = _PIECE.fullmatch(key)
        if piece:
            pieces.setdefault(_ours(f"{piece[1]}.in_proj_{piece[3]}", fine), {})[piece[2]] = value
        elif not re.match(r"(class|bbox)_embed\.", key) and not key.endswith("points_scale"):
            found[_ours(key, fine)] = value  # the left out ones are second names, and constants
    found |= {name: torch.cat([parts[p] for p in "qkv"]) for name, parts in pieces.items() if len(parts) == 3}
    twice = ("up", "reg_scale")
    return found | {f"decoder.{n}": found[f"decoder.decoder.{n}"] for n in twice if f"decoder.decoder.{n}" in found}


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict with published names under those of `transformers`; constants that repeat go once."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        whole = _SPLIT.fullmatch(name)
        if name in ("decoder.up", "decoder.reg_scale"):
            continue
        if whole:
            base = _theirs(f"{whole[1]}.")
            found |= {f"{base}{p}_proj.{whole[2]}": part for p, part in zip("qkv", value.chunk(3), strict=True)}
        else:
            found[_theirs(name)] = value
    return found
