"""YAML rows of the newer DETR families from a configuration, each with the official prefix of its keys.

The model YAMLs of the package and the parts that golden cases build both follow from these rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import ultralytics.nn.modules  # noqa: F401  (fills the registry)
from ultralytics.nn.build.names import resolve_nn_text
from ultralytics.nn.registry import REGISTRY, RowContext

Config = Mapping[str, Any]
Rename = tuple[tuple[str, str], ...]

CONV: Rename = ((r"\bbn\.", "norm."),)
SAME: Rename = ()
HG_BLOCK: Rename = ((r"^m\.", "layers."), (r"^sc\.", "aggregation.0."), (r"^ec\.", "aggregation.1."))
HG_BLOCK_V2: Rename = ((r"^m\.", "layers."), (r"^sc\.", "aggregation_squeeze_conv."), (r"^ec\.", "aggregation_excitation_conv."))
VD_STEM: Rename = ((r"^conv(\d)\.", r"conv1_\1."), *CONV)
VD_BRANCH: Rename = (
    (r"\bcv1\.", "branch2a."),
    (r"\bcv2\.", "branch2b."),
    (r"\bcv3\.", "branch2c."),
    *CONV,
)
AIFI: Rename = ((r"^ma\.", "self_attn."), (r"^fc", "linear"))
REP_C3: Rename = ((r"^cv(\d)\.", r"conv\1."), (r"^m\.", "bottlenecks."), *CONV)
ELAN: Rename = ((r"^(cv[23]\.0\.)cv(\d)\.", r"\1conv\2."), (r"^(cv[23]\.0\.)m\.", r"\1bottlenecks."), *CONV)
AVG_DOWN: Rename = ((r"^cv\.conv\.", "1."), (r"^cv\.bn\.", "2."))
VIT: Rename = ((r"^vit\.", "dinov3._model."),)
HEAD: Rename = (
    (r"^(input_proj\.\d+)\.0\.", r"\1.conv."),
    (r"^(input_proj\.\d+)\.1\.", r"\1.norm."),
    (r"^enc_output\.0\.", "enc_output.proj."),
    (r"^enc_output\.1\.", "enc_output.norm."),
    (r"\.ffn\.linear", ".linear"),
    (r"\.ffn\.w", ".swish_ffn.w"),
)
RMS: Rename = ((r"^(decoder\.layers\.\d+\.(?:norm\d|gateway\.norm))\.weight", r"\1.scale"),)

NO_ACT = [1, 1, None, 1, 1, False]  # kernel, stride, padding, groups, dilation, act of a Conv row

HGNET = {  # stem; then mid, out, blocks, layers of each stage
    "B0": ((16, 16), ((16, 64, 1, 3), (32, 256, 1, 3), (64, 512, 2, 3), (128, 1024, 1, 3))),
    "B1": ((24, 32), ((32, 64, 1, 3), (48, 256, 1, 3), (96, 512, 2, 3), (192, 1024, 1, 3))),
    "B2": ((24, 32), ((32, 96, 1, 4), (64, 384, 1, 4), (128, 768, 3, 4), (256, 1536, 1, 4))),
    "B3": ((24, 32), ((32, 128, 1, 5), (64, 512, 1, 5), (128, 1024, 3, 5), (256, 2048, 1, 5))),
    "B4": ((32, 48), ((48, 128, 1, 6), (96, 512, 1, 6), (192, 1024, 3, 6), (384, 2048, 1, 6))),
    "B5": ((32, 64), ((64, 128, 1, 6), (128, 512, 2, 6), (256, 1024, 5, 6), (512, 2048, 2, 6))),
    "B6": ((48, 96), ((96, 192, 2, 6), (192, 512, 3, 6), (384, 1024, 6, 6), (768, 2048, 3, 6))),
    "Atto": ((16, 16), ((16, 64, 1, 3), (32, 256, 1, 3), (64, 256, 1, 3))),
    "Femto": ((16, 16), ((16, 64, 1, 3), (32, 256, 1, 3), (64, 512, 1, 3))),
    "Pico": ((16, 16), ((16, 64, 1, 3), (32, 256, 1, 3), (64, 512, 2, 3))),
}
HGNET.update(L=HGNET["B4"], X=HGNET["B5"], H=HGNET["B6"])
RESNET = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


@dataclass(frozen=True)
class Row:
    """One YAML row: where from, repeats, module, arguments; and how its keys are called officially."""

    source: int | list[int]
    repeats: int
    module: str
    args: list[Any]
    prefix: str = ""
    rename: Rename = SAME

    def official(self, key: str) -> str:
        """Return the official name of one of the row's keys."""
        for old, new in self.rename:
            key = re.sub(old, new, key)
        return self.prefix + key


@dataclass
class Plan:
    """Rows so far; sources are absolute indices, inputs of a part are numbered from -1 downwards."""

    rows: list[Row] = field(default_factory=list)

    def add(self, source: int | list[int], module: str, args: Iterable[Any], *, n: int = 1, prefix: str = "",
            rename: Rename = SAME) -> int:  # fmt: skip
        """Append a row; return its index."""
        self.rows.append(Row(source, n, module, list(args), prefix, rename))
        return len(self.rows) - 1


# ---------------------------------------------------------------------------------------------------------- backbones
def stages_of(config: Config) -> tuple[Sequence[int], list[dict[str, Any]]]:
    """Return stem widths and stages of an HGNetv2 configuration, by name or written out."""
    if "name" not in config:
        return config["stem"][1:], list(config["stages"])
    stem, rows = HGNET[config["name"]]
    stages = []
    for i, (mid, out, blocks, layers) in enumerate(rows):
        k = 3 if i < 2 or config["name"] == "Atto" else 5
        stages.append({"cm": mid, "c2": out, "blocks": blocks, "n": layers, "light": i > 1, "k": k, "downsample": i > 0})
    return stem, stages


def add_stage(
    plan: Plan, source: int, stage: Config, c1: int, lab: bool, prefix: str, rename: Rename = HG_BLOCK
) -> int:
    """Add a stage of HGNetv2; return the index of its last row."""
    if stage["downsample"]:
        source = plan.add(source, "DWConv", [c1, 3, 2, 1, False], prefix=f"{prefix}downsample.")
    for b in range(stage["blocks"]):
        args = [stage["cm"], stage["c2"], stage["k"], stage["light"], b > 0, None, lab]
        args = args if lab else args[:5]
        source = plan.add(source, "HGBlock", args, n=stage["n"], prefix=f"{prefix}blocks.{b}.", rename=rename)
    return source


def add_hgnet(plan: Plan, config: Config, prefix: str = "") -> list[int]:
    """Add HGNetv2; return the rows of the wanted stages."""
    stem, stages = stages_of(config)
    lab = bool(config.get("lab"))
    nested = ((r"^(stem2[ab])\.conv\.", r"\1.conv.1."),) if config.get("naming") == "v2" else SAME
    source = plan.add(-1, "HGStem", [*stem, True] if lab else stem, prefix=f"{prefix}stem.", rename=nested)
    ends, c1 = [], stem[-1]
    for i, stage in enumerate(stages):
        rename = HG_BLOCK_V2 if config.get("naming") == "v2" else HG_BLOCK  # RT-DETRv2 calls two layers differently
        source = add_stage(plan, source, stage, c1, lab, f"{prefix}stages.{i}.", rename)
        c1 = stage["c2"]
        ends.append(source)
    return [ends[i] for i in config["out"]]


def add_resnet(plan: Plan, config: Config, prefix: str = "") -> list[int]:
    """Add ResNet-vd; return the rows of the wanted stages."""
    depth = config["depth"]
    deep = depth >= 50
    source = plan.add(-1, "ResNetDStem", [64], prefix=f"{prefix}conv1.", rename=VD_STEM)
    ends = []
    for i, blocks in enumerate(RESNET[depth]):
        stride = 1 if i == 0 else 2
        short = "short.conv." if stride == 2 else "short."
        rename = ((r"^layer\.", "blocks."), (r"(blocks\.\d+)\.shortcut\.", rf"\1.{short}"), *VD_BRANCH)
        args = [64 * 2**i * (4 if deep else 1), stride, deep]
        source = plan.add(source, "ResNetDLayer", args, n=blocks, prefix=f"{prefix}res_layers.{i}.", rename=rename)
        ends.append(source)
    return [ends[i] for i in config["out"]]


def add_vit(plan: Plan, config: Config, prefix: str = "") -> list[int]:
    """Add the ViT with its spatial prior; return the rows of its three maps."""
    hidden = config["hidden"] or config["d"]
    args = [config["d"], config["heads"], config["depth"], config["out"], config["c"], hidden]
    args += [True] if config.get("normalize") else []
    source = plan.add(-1, "ViTAdapter", args, prefix=prefix, rename=VIT)
    return [plan.add(source, "Index", [hidden, i]) for i in range(3)]


def add_backbone(plan: Plan, config: Config, prefix: str = "") -> list[int]:
    """Add a backbone of any kind."""
    kinds = {"hgnetv2": add_hgnet, "resnetvd": add_resnet, "sta": add_vit}
    return kinds[config["kind"]](plan, config, prefix)


# ------------------------------------------------------------------------------------------------------------ encoder
def add_fusion(plan: Plan, config: Config, source: int, prefix: str) -> int:
    """Add the fusion block of a family."""
    d, n = config["d"], round(3 * config["depth"])
    version = config.get("version", config["family"])
    if version in ("rtdetrv2", "rt_detrv2"):
        return plan.add(source, "RepC3", [d, config["e"]], n=n, prefix=prefix, rename=REP_C3)
    c4 = round(config["e"] * d // 2)
    split = config.get("csp") == "csp2"
    if config["family"] == "deimv2" and version == "deim":
        return plan.add(source, "RepELAN5", [d, 2 * d, c4], n=n, prefix=prefix, rename=ELAN)
    args = [d, 2 * d, c4, True] if split else [d, 2 * d, c4]
    return plan.add(source, "RepELAN4", args, n=n, prefix=prefix, rename=ELAN)


def add_join(plan: Plan, config: Config, sources: list[int]) -> int:
    """Join two maps as the family does."""
    if config.get("fuse") == "sum":
        return plan.add(sources, "Add", [])
    return plan.add(sources, "Concat", [1])


def add_encoder(plan: Plan, config: Config, sources: Sequence[int], prefix: str = "") -> list[int]:
    """Add the hybrid encoder; return the rows of its levels."""
    if config.get("lite"):
        return add_lite(plan, config, sources[0], prefix)
    d = config["d"]
    plain = config.get("version", config["family"]) in ("rtdetrv2", "rt_detrv2")
    levels = list(sources)
    for i, (c, source) in enumerate(zip(config["ch"], sources, strict=True)):
        if not (config["family"] == "deimv2" and c == d):
            levels[i] = plan.add(source, "Conv", [d, *NO_ACT], prefix=f"{prefix}input_proj.{i}.", rename=CONV)
    for k, i in enumerate(config["aifi"]):
        for j in range(config["layers"]):
            name = f"{prefix}encoder.{k}.layers.{j}."
            levels[i] = plan.add(levels[i], "AIFI", [config["ffn"], config["heads"]], prefix=name, rename=AIFI)
    inner = [levels[-1]]
    for k in range(len(levels) - 1):
        args = [d, 1, 1] if plain else [d, *NO_ACT]
        inner[0] = plan.add(inner[0], "Conv", args, prefix=f"{prefix}lateral_convs.{k}.", rename=CONV)
        up = plan.add(inner[0], "nn.Upsample", [None, 2, "nearest"])
        joined = add_join(plan, config, [up, levels[-2 - k]])
        inner.insert(0, add_fusion(plan, config, joined, f"{prefix}fpn_blocks.{k}."))
    outs = [inner[0]]
    for k in range(len(levels) - 1):
        name = f"{prefix}downsample_convs.{k}."
        if plain:
            down = plan.add(outs[-1], "Conv", [d, 3, 2], prefix=name, rename=CONV)
        else:
            down = plan.add(outs[-1], "SCDown", [d, 3, 2, False], prefix=f"{name}0.", rename=CONV)
        joined = add_join(plan, config, [down, inner[k + 1]])
        outs.append(add_fusion(plan, config, joined, f"{prefix}pan_blocks.{k}."))
    return outs


def add_lite(plan: Plan, config: Config, source: int, prefix: str = "") -> list[int]:
    """Add the encoder of DEIMv2's small models."""
    d = config["d"]
    options = {**config, "family": "deimv2", "version": "dfine", "csp": "csp2"}
    fine = plan.add(source, "Conv", [d, *NO_ACT], prefix=f"{prefix}input_proj.0.", rename=CONV)
    down = plan.add(fine, "AvgDown", [d], prefix=f"{prefix}down_sample1.", rename=AVG_DOWN)
    coarse = plan.add(down, "GlobalFusion", [], prefix=f"{prefix}bi_fusion.", rename=CONV)
    up = plan.add(coarse, "nn.Upsample", [None, 2, "nearest"])
    joined = plan.add([up, fine], "Add", [])
    first = add_fusion(plan, options, joined, f"{prefix}fpn_block.")
    down = plan.add(first, "AvgDown", [d], prefix=f"{prefix}down_sample2.", rename=AVG_DOWN)
    joined = plan.add([down, coarse], "Add", [])
    return [first, add_fusion(plan, options, joined, f"{prefix}pan_block.")]


# --------------------------------------------------------------------------------------------------------------- head
def head_row(config: Config, nc: int | str) -> tuple[str, list[Any]]:
    """Return module and arguments of the head row, the defaults left out."""
    family = config["family"]
    common = [nc, config["d"], config["queries"], config["points"], config["heads"], config["layers"], config["ffn"]]
    silu = "nn.SiLU" if config.get("act") == "silu" else None
    eval_idx, nd = config.get("eval_idx", -1), config.get("denoising", 100)
    if family == "rtdetrv2":
        extra = [silu, eval_idx, nd, 0.5, bool(config.get("learn_query")), config.get("method") == "discrete",
                 config.get("select", "default"), config.get("query_pos") == "as_reg"]  # fmt: skip
        defaults: list[Any] = [None, -1, 100, 0.5, False, False, "default", False]
        return "RTDETRDecoderv2", [*common, *_without(extra, defaults)]
    common += [config["reg_max"], config["reg_scale"]]
    if family == "deimv2":
        extra = [config.get("gateway", True), bool(config.get("share_bbox")), bool(config.get("share_score")), eval_idx, nd]
        return "DEIMDecoder", [*common, *_without(extra, [True, False, False, -1, 100])]
    extra = [silu, eval_idx, nd, 0.5, bool(config.get("learn_query")), config.get("select", "default")]
    return "DFINEDecoder", [*common, *_without(extra, [None, -1, 100, 0.5, False, "default"])]


def _without(args: list[Any], defaults: list[Any]) -> list[Any]:
    """Cut arguments at the end that are the defaults."""
    while args and args[-1] == defaults[-1]:
        args, defaults = args[:-1], defaults[:-1]
    return args


def head_names(config: Config, key: str) -> list[str]:
    """Return the official names of a key of a head; several where the official dict repeats a shared tensor."""
    for old, new in (*HEAD, *(RMS if config["family"] == "deimv2" else ())):
        key = re.sub(old, new, key)
    if key == "denoising_class_embed.weight" and not config.get("denoising", 100):
        return []
    if key in ("up", "reg_scale"):
        return [key, f"decoder.{key}"]
    for shared, name in (("share_bbox", "dec_bbox_head.0."), ("share_score", "dec_score_head.0.")):
        if config.get(shared) and key.startswith(name):
            return [name.replace("0", str(i)) + key.removeprefix(name) for i in range(config["layers"])]
    return [key]


# --------------------------------------------------------------------------------------------------------------- parts
class Part(nn.Module):
    """Rows run as a model runs them; inputs are the maps -1, -2, ..."""

    def __init__(self, rows: Sequence[Row], outs: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        self.rows, self.outs = list(rows), list(outs)
        widths = {-1 - i: c for i, c in enumerate(channels)}
        self.model = nn.ModuleList()
        for i, row in enumerate(rows):
            ins = tuple(widths[s] for s in (row.source if isinstance(row.source, list) else [row.source]))
            entry = REGISTRY.get(row.module)
            args = tuple(resolve_nn_text(a) for a in row.args)
            if entry is None:
                self.model.append(getattr(nn, row.module.removeprefix("nn."))(*args))
                widths[i] = ins[0]
                continue
            assert entry.rule is not None
            plan = entry.rule(RowContext(ins, args, row.repeats))
            self.model.append(entry.cls(*plan.args))
            widths[i] = plan.out_channels

    def forward(self, *maps: Tensor | list[Tensor]) -> list[Tensor]:
        """Return the maps of the rows that are asked for."""
        first = maps[0]
        values: dict[int, Any] = {-1 - i: m for i, m in enumerate(first if isinstance(first, list) else maps)}
        for i, (row, module) in enumerate(zip(self.rows, self.model, strict=True)):
            source = row.source
            values[i] = module([values[s] for s in source] if isinstance(source, list) else values[source])
        return [values[i] for i in self.outs]


def row_names(rows: Sequence[Row], key: str) -> list[str]:
    """Return the official name of a key `model.<row>.<rest>`."""
    _, index, rest = key.split(".", 2)
    return [rows[int(index)].official(rest)]


def freeze_norms(module: nn.Module) -> nn.Module:
    """Replace batch norms by torchvision's frozen ones."""
    from torchvision.ops import FrozenBatchNorm2d

    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features, eps=1e-5))
        else:
            freeze_norms(child)
    return module
