"""Names of the tensors of D-FINE, DEIM, DEIMv2 and RT-DETRv2 in their projects' files, for any model YAML, both ways.

A row of a model YAML has a part in the published network that follows from what stands before it: the first norm-free
convolutions are input projections, those behind the self-attention lateral ones, and so on. Rows that the published
networks do not have are passed over, so that an edited YAML keeps the names of all others.

In a rule `#` stands for a number and `*`, at the end, for the rest of a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor

from ultralytics.nn.build.spec import LayerSpec, ModelSpec, load_model_yaml

__all__ = (
    "KeyRole",
    "Rules",
    "key_roles",
    "official_names",
    "official_state",
    "own_state",
    "regrouped_state",
    "swap_parts",
    "translate",
)

Rules = tuple[tuple[str, str], ...]
"""Pairs of our form and the published form of a key."""

_RENAMED: Mapping[str, Rules] = {
    "HGBlock": (("m.*", "layers.*"), ("sc.*", "aggregation.0.*"), ("ec.*", "aggregation.1.*")),
    "HGBlock of RT-DETRv2": (
        ("m.*", "layers.*"),
        ("sc.*", "aggregation_squeeze_conv.*"),
        ("ec.*", "aggregation_excitation_conv.*"),
    ),
    "HGStem of RT-DETRv2": (("stem2a.conv.*", "stem2a.conv.1.*"), ("stem2b.conv.*", "stem2b.conv.1.*")),
    "ResNetDStem": (("conv#.*", "conv1_#.*"),),
    "ResNetDLayer": tuple((f"layer.#.cv{k}.*", f"blocks.#.branch2{'abc'[k - 1]}.*") for k in (1, 2, 3)),
    "ViTAdapter": (("vit.*", "dinov3._model.*"),),
    "AIFI": (("ma.*", "self_attn.*"), ("fc#.*", "linear#.*")),
    "RepC3": (("cv#.*", "conv#.*"), ("m.*", "bottlenecks.*")),
    "RepELAN4": (("cv#.0.cv#.*", "cv#.0.conv#.*"), ("cv#.0.m.*", "cv#.0.bottlenecks.*")),
    "AvgDown": (("cv.conv.*", "1.*"), ("cv.norm.*", "2.*")),
    "head": (
        ("input_proj.#.0.*", "input_proj.#.conv.*"),
        ("input_proj.#.1.*", "input_proj.#.norm.*"),
        ("enc_output.0.*", "enc_output.proj.*"),
        ("enc_output.1.*", "enc_output.norm.*"),
    ),
    "DFINEDecoder": (
        ("decoder.layers.#.ffn.linear#.*", "decoder.layers.#.linear#.*"),
        ("decoder.layers.#.ffn.w*", "decoder.layers.#.swish_ffn.w*"),
    ),
    "DEIMDecoder": (
        ("decoder.layers.#.norm#.weight", "decoder.layers.#.norm#.scale"),
        ("decoder.layers.#.gateway.norm.weight", "decoder.layers.#.gateway.norm.scale"),
    ),
}
_SHORTCUTS = {1: "blocks.#.short.*", 2: "blocks.#.short.conv.*"}  # by the stride of the stage
_HEADS = ("RTDETRDecoder", "RTDETRDecoderv2", "DFINEDecoder", "DEIMDecoder")
_FUSIONS = ("RepC3", "RepELAN4", "RepELAN5")
_COMPUTED = re.compile(r"(.+\.)?(anchors|valid_mask|num_points_scale)|decoder\.decoder\.(up|reg_scale)")
_SHARED = re.compile(r"decoder\.dec_(score|bbox)_head\.[1-9]\d*\..+")


@dataclass(frozen=True)
class KeyRole:
    """The part of a row in a published network: prefix of its keys, their rules, and whether a `bn` is a `norm`."""

    prefix: str
    rules: Rules = ()
    norm: bool = False
    shared: tuple[str, ...] = ()
    """Heads (bbox, score) that all decoder layers share: published files repeat them for each of `depth` layers."""
    depth: int = 0

    def official(self, key: str) -> str:
        """Return the published name of one of the row's keys."""
        key = swap_parts(key, "bn", "norm") if self.norm else key
        return self.prefix + translate(key, self.rules)

    def own(self, name: str) -> str:
        """Return the row's key of a published name, which begins with the prefix."""
        key = translate(name.removeprefix(self.prefix), [(b, a) for a, b in self.rules])
        return swap_parts(key, "norm", "bn") if self.norm else key


def swap_parts(key: str, old: str, new: str) -> str:
    """Replace a part of a key, between dots, wherever it stands."""
    return ".".join(new if part == old else part for part in key.split("."))


def translate(key: str, rules: Iterable[tuple[str, str]]) -> str:
    """Rename a key by the first rule whose left side it fits; without one it stays.

    >>> translate("m.3.conv.weight", [("m.*", "layers.*")])
    'layers.3.conv.weight'
    """
    for left, right in rules:
        match = _pattern(left).fullmatch(key)
        if match:
            for value in match.groups():
                right = re.sub(r"[#*]", value, right, count=1)
            return right
    return key


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r"\#", r"(\d+)").replace(r"\*", "(.+)"))


class _Walk:
    """Gives each row its part, from the first to the last."""

    def __init__(self, spec: ModelSpec) -> None:
        self.layers = spec.layers
        self.counts: dict[str, int] = {}
        backbone = [layer.index for layer in spec.layers if layer.part == "backbone"]
        self.last = max(backbone, default=-1)
        read = {i for layer in spec.layers if layer.part != "backbone" for i in layer.inputs}
        self.levels = sorted(i for i in read if i <= self.last)
        modules = {layer.module for layer in spec.layers}
        self.second = "RTDETRDecoderv2" in modules and "HGStem" in modules
        self.lite = "GlobalFusion" in modules

    def role(self, layer: LayerSpec) -> KeyRole | None:
        """Return the part of a row, None for one that published networks do not have."""
        if layer.part == "backbone":
            return self._backbone(layer)
        if layer.module in _HEADS:
            return _head_role(layer)
        return self._encoder(layer)

    def _next(self, name: str) -> int:
        """Count the rows of a part, from 0."""
        self.counts[name] = self.counts.get(name, -1) + 1
        return self.counts[name]

    def _backbone(self, layer: LayerSpec) -> KeyRole | None:
        name, form = layer.module, " of RT-DETRv2" if self.second else ""
        if name == "HGStem":
            return KeyRole("backbone.stem.", _RENAMED.get(f"HGStem{form}", ()))
        if name == "DWConv":
            self.counts["blocks"] = -1
            return KeyRole(f"backbone.stages.{self._next('stage') + 1}.downsample.")
        if name == "HGBlock":
            stage = self.counts.get("stage", -1) + 1
            return KeyRole(f"backbone.stages.{stage}.blocks.{self._next('blocks')}.", _RENAMED[f"HGBlock{form}"])
        if name == "ResNetDStem":
            return KeyRole("backbone.conv1.", _RENAMED[name], norm=True)
        if name == "ConvNormLayer":
            return KeyRole(f"backbone.conv1.conv1_{self._next('stem') + 1}.")
        if name == "Blocks":
            return KeyRole(f"backbone.res_layers.{self._next('stage')}.")
        if name == "ResNetDLayer":
            short = ("layer.#.shortcut.*", _SHORTCUTS[min(int(layer.args[1]), 2)])
            return KeyRole(f"backbone.res_layers.{self._next('stage')}.", (*_RENAMED[name], short), norm=True)
        return KeyRole("backbone.", _RENAMED[name]) if name == "ViTAdapter" else None

    def _encoder(self, layer: LayerSpec) -> KeyRole | None:
        name = layer.module
        if name == "AIFI":
            return KeyRole(f"encoder.encoder.0.layers.{self._next('attention')}.", _RENAMED[name])
        if name in _FUSIONS:
            return KeyRole(self._fusion(), _RENAMED["RepC3" if name == "RepC3" else "RepELAN4"], norm=True)
        if name == "AvgDown":
            return KeyRole(f"encoder.down_sample{self._next('down') + 1}.", _RENAMED[name], norm=True)
        if name == "GlobalFusion":
            return KeyRole("encoder.bi_fusion.", norm=True)
        if name == "SCDown":
            return KeyRole(f"encoder.downsample_convs.{self._next('down')}.0.", norm=True)
        return self._convolution(layer) if name == "Conv" else None

    def _convolution(self, layer: LayerSpec) -> KeyRole | None:
        """An input projection reads a level of the backbone; behind the attention come lateral and strided ones.

        RT-DETR projects its finer levels behind the attention, by rows without an activation.
        """
        linear = len(layer.args) > 6 and layer.args[6] is False
        if layer.inputs[0] in self.levels and (linear or "attention" not in self.counts):
            return KeyRole(f"encoder.input_proj.{self.levels.index(layer.inputs[0])}.", norm=True)
        if len(layer.args) > 1 and layer.args[1] != 1:
            return KeyRole(f"encoder.downsample_convs.{self._next('down')}.", norm=True)
        return KeyRole(f"encoder.lateral_convs.{self._next('lateral')}.", norm=True)

    def _fusion(self) -> str:
        """Top-down blocks come before the second downsampling, or before any of the full encoder."""
        if self.lite:
            return f"encoder.{'fpn' if self._next('fusion') == 0 else 'pan'}_block."
        part = "pan" if "down" in self.counts else "fpn"
        return f"encoder.{part}_blocks.{self._next(part)}."


def _head_role(layer: LayerSpec) -> KeyRole:
    rules = _RENAMED["head"]
    if layer.module in ("RTDETRDecoder", "RTDETRDecoderv2"):
        return KeyRole("decoder.", rules)
    rules += _RENAMED["DFINEDecoder"]
    if layer.module == "DFINEDecoder":
        return KeyRole("decoder.", rules)
    single = dict(zip(("bbox", "score"), layer.args[10:12], strict=False))
    shared = tuple(name for name, value in single.items() if value)
    return KeyRole("decoder.", (*rules, *_RENAMED["DEIMDecoder"]), shared=shared, depth=int(layer.args[5]))


def key_roles(yaml: Mapping[str, Any] | str) -> dict[int, KeyRole]:
    """Return the parts of the rows of a model YAML in the published network, by row."""
    spec = load_model_yaml(yaml)
    walk = _Walk(spec)
    roles = {layer.index: walk.role(layer) for layer in spec.layers}
    return {index: role for index, role in roles.items() if role is not None}


def official_names(key: str, roles: Mapping[int, KeyRole]) -> list[str]:
    """Return the published names of a key `model.<row>.<rest>`.

    There is none for a row that published networks lack, and several for constants and shared heads, which their files
    repeat.
    """
    _, index, rest = key.split(".", 2)
    role = roles.get(int(index))
    if role is None:
        return []
    name = role.official(rest)
    if role.prefix == "decoder." and rest in ("up", "reg_scale"):
        return [name, f"decoder.decoder.{rest}"]
    head = re.fullmatch(r"decoder\.dec_(bbox|score)_head\.0\.(.+)", name)
    if head and head[1] in role.shared:
        return [f"decoder.dec_{head[1]}_head.{i}.{head[2]}" for i in range(role.depth)]
    return [name]


def official_state(state: Mapping[str, Tensor], roles: Mapping[int, KeyRole]) -> dict[str, Tensor]:
    """Return a network's state dict under the published names; rows that published networks lack are left out."""
    return {name: value for key, value in state.items() for name in official_names(key, roles)}


def own_state(state: Mapping[str, Tensor], roles: Mapping[int, KeyRole]) -> tuple[dict[str, Tensor], list[str]]:
    """Return a published state dict under the keys of a network, and the names that no row has.

    Constants that are computed here, and repetitions of a shared head, are left out.
    """
    prefixes: Sequence[tuple[str, int]] = sorted(((r.prefix, i) for i, r in roles.items()), key=lambda p: -len(p[0]))
    own: dict[str, Tensor] = {}
    unknown = []
    for name, value in state.items():
        if _COMPUTED.fullmatch(name):
            continue
        index = next((i for prefix, i in prefixes if name.startswith(prefix)), None)
        repeated = _SHARED.fullmatch(name)
        if index is None:
            unknown.append(name)
        elif not (repeated and repeated[1] in roles[index].shared):
            own[f"model.{index}.{roles[index].own(name)}"] = value
    return own, unknown


def regrouped_state(
    state: Mapping[str, Tensor], source: Mapping[str, Any], yaml: Mapping[str, Any], keys: Iterable[str]
) -> dict[str, Tensor] | None:
    """Return a state dict of one model YAML under the keys of another one of the same published network.

    The two may group its layers into different rows, as `rtdetr-r18.yaml` and `rtdetr-resnet18.yaml` do. None where the
    result would not be exactly the tensors `keys`.
    """
    published = official_state(state, key_roles(source))
    own, unknown = own_state(published, key_roles(yaml))
    return None if unknown or own.keys() != set(keys) else own
