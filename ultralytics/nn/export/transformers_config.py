"""The `config.json` with which `transformers` builds a network of ours, from the network's tensors and modules.

Sizes are read from the shapes of the tensors under published names, so that scales and edited widths are right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ultralytics.nn.modules.detr.dfine_head import DFINEDecoder
from ultralytics.nn.modules.detr.rtdetrv2_decoder import RTDETRDecoderv2
from ultralytics.nn.modules.head import RTDETRDecoder
from ultralytics.nn.modules.transformer import AIFI
from ultralytics.utils.errors import ConfigError

__all__ = ("HubClass", "hub_class", "hub_config", "preprocessor_config")

NORM_EPS = 1e-5  # of the batch norms of these classes
_AIFI = "encoder.encoder.0.layers."
_State = Mapping[str, Tensor]


@dataclass(frozen=True)
class HubClass:
    """A class of `transformers`: its name, its image processor, and the `model_type` of its configuration."""

    name: str
    model_type: str
    processor: str = "RTDetrImageProcessor"


CLASSES_BY_HEAD: Mapping[type[nn.Module], HubClass] = {
    RTDETRDecoder: HubClass("RTDetrForObjectDetection", "rt_detr"),
    RTDETRDecoderv2: HubClass("RTDetrV2ForObjectDetection", "rt_detr_v2"),
    DFINEDecoder: HubClass("DFineForObjectDetection", "d_fine"),
}


def hub_class(head: nn.Module) -> HubClass:
    """Return the class that has a head; ConfigError where there is none."""
    found = CLASSES_BY_HEAD.get(type(head))
    if found is None:
        known = ", ".join(sorted(cls.__name__ for cls in CLASSES_BY_HEAD))
        raise ConfigError(f"format=hf: transformers has no class for the head {type(head).__name__}", f"heads: {known}")
    return found


def hub_config(network: nn.Sequential, state: _State, names: Mapping[int, str]) -> dict[str, Any]:
    """Return the configuration of a network whose tensors are given under published names.

    Raises ConfigError for a head or backbone that `transformers` does not have.
    """
    head: Any = network[-1]
    kind = hub_class(head)
    config: dict[str, Any] = {
        "architectures": [kind.name],
        "model_type": kind.model_type,
        "torch_dtype": "float32",
        "id2label": {str(i): name for i, name in names.items()},
        "label2id": {name: i for i, name in names.items()},
        "backbone_config": _backbone(state),
        "anchor_image_size": None,
        "batch_norm_eps": NORM_EPS,
        "layer_norm_eps": 1e-5,
        **_encoder(network, state),
        **_decoder(head, state),
    }
    return config


def preprocessor_config(kind: HubClass, side: int) -> dict[str, Any]:
    """Return the `preprocessor_config.json`: images are stretched to a square and divided by 255, as here."""
    return {
        "image_processor_type": kind.processor,
        "do_resize": True,
        "size": {"height": side, "width": side},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": False,
        "do_pad": False,
        "do_convert_annotations": True,
        "format": "coco_detection",
    }


# ------------------------------------------------------------------------------------------------------------ backbone
def _backbone(state: _State) -> dict[str, Any]:
    levels = _count(state, r"encoder\.input_proj\.(\d+)\.")
    outputs = {"out_features": [f"stage{k}" for k in range(5 - levels, 5)]}
    if "backbone.conv1.conv1_3.conv.weight" in state:
        return {**_resnet(state), **outputs}
    if "backbone.stem.stem1.conv.weight" in state:
        return {**_hgnet(state), **outputs}
    raise ConfigError("format=hf: the backbone is neither a ResNet-D nor an HGNetv2, which transformers has")


def _resnet(state: _State) -> dict[str, Any]:
    stages = range(_count(state, r"backbone\.res_layers\.(\d+)\."))
    deep = "backbone.res_layers.0.blocks.0.branch2c.conv.weight" in state
    last = "branch2c" if deep else "branch2b"
    return {
        "model_type": "rt_detr_resnet",
        "num_channels": 3,
        "embedding_size": _channels(state, "backbone.conv1.conv1_3"),
        "hidden_sizes": [_channels(state, f"backbone.res_layers.{s}.blocks.0.{last}") for s in stages],
        "depths": [_count(state, rf"backbone\.res_layers\.{s}\.blocks\.(\d+)\.") for s in stages],
        "layer_type": "bottleneck" if deep else "basic",
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
    }


def _hgnet(state: _State) -> dict[str, Any]:
    stages = range(_count(state, r"backbone\.stages\.(\d+)\."))
    first = [f"backbone.stages.{s}.blocks.0." for s in stages]
    light = [f"{block}layers.0.conv1.conv.weight" in state for block in first]
    entry = [f"{block}layers.0.{'conv1.' if lit else ''}conv.weight" for block, lit in zip(first, light, strict=True)]
    kernel = [f"{block}layers.0.{'conv2.' if lit else ''}conv.weight" for block, lit in zip(first, light, strict=True)]
    out = [_channels(state, f"{block}aggregation.1") for block in first]
    depths = [_count(state, rf"backbone\.stages\.{s}\.blocks\.(\d+)\.") for s in stages]
    return {
        "model_type": "hgnet_v2",
        "num_channels": 3,
        "embedding_size": _channels(state, "backbone.stem.stem4"),
        "hidden_act": "relu",
        "hidden_sizes": out,
        "depths": depths,
        "stem_channels": [3, _channels(state, "backbone.stem.stem1"), _channels(state, "backbone.stem.stem4")],
        "stage_in_channels": [int(state[key].shape[1]) for key in entry],
        "stage_mid_channels": [int(state[key].shape[0]) for key in entry],
        "stage_out_channels": out,
        "stage_num_blocks": depths,
        "stage_downsample": [f"backbone.stages.{s}.downsample.conv.weight" in state for s in stages],
        "stage_light_block": light,
        "stage_kernel_size": [int(state[key].shape[-1]) for key in kernel],
        "stage_numb_of_layers": [_count(state, rf"backbone\.stages\.{s}\.blocks\.0\.layers\.(\d+)\.") for s in stages],
        "use_learnable_affine_block": "backbone.stem.stem1.lab.scale" in state,
    }


# ---------------------------------------------------------------------------------------------------- encoder, decoder
def _encoder(network: nn.Sequential, state: _State) -> dict[str, Any]:
    levels = _count(state, r"encoder\.input_proj\.(\d+)\.")
    width = _channels(state, "encoder.input_proj.0")
    attention = next((m for m in network.modules() if isinstance(m, AIFI)), None)
    if attention is None:
        raise ConfigError("format=hf: the encoder has no AIFI row, which transformers has")
    found: dict[str, Any] = {
        "encoder_hidden_dim": width,
        "encoder_in_channels": [int(state[f"encoder.input_proj.{k}.conv.weight"].shape[1]) for k in range(levels)],
        "feat_strides": [2 ** (6 - levels + k) for k in range(levels)],
        "num_feature_levels": levels,
        "encoder_layers": _count(state, rf"{re.escape(_AIFI)}(\d+)\."),
        "encoder_ffn_dim": int(state[f"{_AIFI}0.linear1.weight"].shape[0]),
        "encoder_attention_heads": int(attention.ma.num_heads),
        "encode_proj_layers": [levels - 1],
        "encoder_activation_function": "gelu",
        "activation_function": "silu",
        "normalize_before": bool(attention.normalize_before),
        "decoder_in_channels": [width] * levels,
    }
    block = "encoder.fpn_blocks.0."
    if f"{block}cv4.conv.weight" in state:  # a fusion block of GELAN
        inner = _channels(state, f"{block}cv2.1")
        repeats = _count(state, rf"{re.escape(block)}cv2\.0\.bottlenecks\.(\d+)\.")
        return {**found, "hidden_expansion": 2 * inner / width, "depth_mult": repeats / 3}
    return {**found, "hidden_expansion": _channels(state, f"{block}conv1") / width}


def _decoder(head: Any, state: _State) -> dict[str, Any]:
    layers = head.num_decoder_layers
    if head.learnt_init_query or int(head.decoder.eval_idx) not in {-1, layers - 1}:
        raise ConfigError(
            "format=hf: a head with learnt queries, or that is evaluated before its last layer, has no class in "
            "transformers", "choose another model, such as rtdetr-resnet50vd.yaml or dfine-s.yaml",
        )  # fmt: skip
    found: dict[str, Any] = {
        "d_model": head.hidden_dim,
        "num_queries": head.num_queries,
        "decoder_layers": layers,
        "decoder_attention_heads": head.nhead,
        "decoder_ffn_dim": int(state["decoder.decoder.layers.0.linear1.weight"].shape[0]),
        "decoder_activation_function": "relu",
        "num_denoising": head.num_denoising,
        "label_noise_ratio": head.label_noise_ratio,
        "box_noise_scale": 1.0,
        "learn_initial_query": False,
        "with_box_refine": True,
        "eval_idx": -1,
    }
    points = list(head.decoder.layers[0].cross_attn.points)
    if isinstance(head, DFINEDecoder):
        fine = {"max_num_bins": head.reg_max, "reg_scale": float(head.reg_scale), "up": float(head.up)}
        return {**found, **fine, "decoder_n_points": points, "decoder_method": "default"}
    if len(set(points)) != 1:
        raise ConfigError(f"format=hf: {points} sampling points; this class of transformers has one number for all")
    return {**found, "decoder_n_points": points[0]}


def _channels(state: _State, name: str) -> int:
    """Output channels of a convolution."""
    return int(state[f"{name}.conv.weight"].shape[0])


def _count(state: _State, pattern: str) -> int:
    """How many different numbers a pattern of a key's beginning finds."""
    compiled = re.compile(pattern)
    return len({match[1] for key in state if (match := compiled.match(key))})
