"""Stock models of the newer DETR families: their configurations, and whole models built from rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.golden.adapters import detr_rows as rows

Config = dict[str, Any]
E3 = {"strides": [8, 16, 32], "heads": 8, "aifi": [2], "layers": 1}
E2 = {"strides": [16, 32], "heads": 8, "aifi": [1], "layers": 1}


def hg(name: str, out: Sequence[int] = (1, 2, 3)) -> Config:
    """Return an HGNetv2 backbone; the small ones have the affine step."""
    lab = name in ("B0", "B1", "B2", "B3", "Atto", "Femto", "Pico")
    return {"kind": "hgnetv2", "name": name, "lab": lab, "out": list(out)}


def channels(backbone: Config) -> list[int]:
    """Return the channels of a backbone's outputs."""
    if backbone["kind"] == "hgnetv2":
        return [rows.stages_of(backbone)[1][i]["c2"] for i in backbone["out"]]
    if backbone["kind"] == "sta":
        return [backbone["hidden"] or backbone["d"]] * 3
    return [64 * 2**i * (4 if backbone["depth"] >= 50 else 1) for i in backbone["out"]]


def model(family: str, backbone: Config, encoder: Config, head: Config, criterion: Config | None = None) -> Config:
    """Return a whole configuration; inputs of encoder and head follow from the backbone and the encoder."""
    lite = bool(encoder.get("lite"))
    base = {} if lite else dict(E2 if len(backbone["out"]) == 2 else E3)
    whole = {"family": family, "ch": channels(backbone), **base, **encoder}
    levels = 2 if lite else len(whole["ch"])
    heads = {"family": family, "ch": [whole["d"]] * levels, "queries": 300, "heads": 8, "reg_max": 32, "reg_scale": 4.0}
    return {"family": family, "backbone": backbone, "encoder": whole, "head": {**heads, **head}, "criterion": criterion}


def fine(family: str, name: str, encoder: Config, head: Config, **extra: Any) -> Config:
    """Return a D-FINE-like model on HGNetv2."""
    small = name == "B0" and encoder["d"] == 128
    backbone = hg(name, (2, 3) if small else (1, 2, 3))
    points = [6, 6] if small else [3, 6, 3]
    return model(
        family, backbone, encoder, {"d": min(encoder["d"], 256), "points": points, "ffn": 1024, **head}, **extra
    )


def resnet(depth: int, encoder: Config, head: Config, family: str = "rtdetrv2", **extra: Any) -> Config:
    """Return an RT-DETRv2 model on ResNet-vd."""
    backbone = {"kind": "resnetvd", "depth": depth, "out": [1, 2, 3]}
    return model("rtdetrv2", backbone, encoder, {"d": 256, "points": [4, 4, 4], "ffn": 1024, **head}, **extra)


ENCODERS: dict[str, Config] = {
    "n": {"d": 128, "ffn": 512, "e": 0.34, "depth": 0.5},
    "s": {"d": 256, "ffn": 1024, "e": 0.5, "depth": 0.34},
    "m": {"d": 256, "ffn": 1024, "e": 1.0, "depth": 0.67},
    "l": {"d": 256, "ffn": 1024, "e": 1.0, "depth": 1},
    "x": {"d": 384, "ffn": 2048, "e": 1.0, "depth": 1},
}
NETS = {"n": "B0", "s": "B0", "m": "B2", "l": "B4", "x": "B5"}
HEADS: dict[str, Config] = {
    "n": {"layers": 3, "ffn": 512},
    "s": {"layers": 3},
    "m": {"layers": 4},
    "l": {"layers": 6},
    "x": {"layers": 6, "reg_scale": 8.0},
}
SUM2 = {"csp": "csp2", "fuse": "sum"}
VD: dict[str, tuple[int, Config, Config]] = {
    "r18": (18, {"d": 256, "ffn": 1024, "e": 0.5, "depth": 1}, {"layers": 3}),
    "r34": (34, {"d": 256, "ffn": 1024, "e": 0.5, "depth": 1}, {"layers": 4}),
    "r50-m": (50, {"d": 256, "ffn": 1024, "e": 0.5, "depth": 1}, {"layers": 6, "eval_idx": 2}),
    "r50": (50, {"d": 256, "ffn": 1024, "e": 1.0, "depth": 1}, {"layers": 6}),
    "r101": (101, {"d": 384, "ffn": 2048, "e": 1.0, "depth": 1}, {"layers": 6}),
}
PLAIN = {"union": False, "local": False}


def stock() -> dict[str, Config]:
    """Return the configurations of all shipped YAMLs by the stem of the file."""
    found: dict[str, Config] = {}
    for size in ENCODERS:
        found[f"dfine-{size}"] = fine("dfine", NETS[size], ENCODERS[size], HEADS[size])
        silu = {**HEADS[size], "act": "silu"}
        found[f"deim-{size}"] = fine("deim", NETS[size], ENCODERS[size], silu, criterion={"loss": "mal"})
        version = "dfine" if size in "ns" else "deim"
        head = {**HEADS[size], "ffn": 512 if size == "n" else 2048}
        change = {"n": 136, "s": 100, "m": 80, "l": 45, "x": 45}[size]
        name = "deimv2-n" if size == "n" else f"deimv2-hgnetv2-{size}"
        encoder = {**ENCODERS[size], **SUM2, "version": version}
        found[name] = fine("deimv2", NETS[size], encoder, head, criterion={"loss": "mal", "change_epoch": change})
    for name, d, queries, ffn in (("Atto", 64, 100, 160), ("Femto", 96, 150, 256), ("Pico", 112, 200, 320)):
        lite = {"lite": True, "strides": [16], "d": d, "e": 0.34, "depth": 0.5, "fuse": "sum"}
        head = {
            "d": d,
            "queries": queries,
            "points": [4, 2],
            "layers": 3,
            "ffn": ffn,
            "gateway": False,
            "share_bbox": True,
        }
        choice = {"loss": "mal", **PLAIN, "change_epoch": 450}
        found[f"deimv2-{name.lower()}"] = model("deimv2", hg(name, [2]), lite, head, choice)
    for size, d, heads, e, depth, change in (("s", 192, 3, 0.34, 0.67, 100), ("m", 256, 4, 0.67, 1, 80)):
        backbone = {"kind": "sta", "d": d, "heads": heads, "depth": 12, "out": [3, 7, 11], "c": 16, "hidden": None}
        encoder = {"d": d, "ffn": 512, "e": e, "depth": depth, **SUM2, "version": "deim"}
        head = {"d": d, "points": [3, 6, 3], "layers": 4, "ffn": 512}
        choice = {"loss": "mal", "change_epoch": change}
        found[f"deimv2-{size}"] = model("deimv2", {**backbone, "normalize": True}, encoder, head, choice)
    for size, (depth, encoder, head) in VD.items():
        found[f"rtdetrv2-{size}"] = resnet(depth, encoder, head, criterion=PLAIN)
        deim = {
            "layers": min(head["layers"], 3) if size == "r50-m" else head["layers"],
            "act": "silu",
            "query_pos": "as_reg",
        }
        found[f"deim-rtdetrv2-{size}"] = resnet(depth, encoder, deim, criterion={"loss": "mal", **PLAIN})
    for size, name, d, ffn, layers in (("l", "L", 256, 1024, 1), ("x", "X", 384, 2048, 1), ("h", "H", 512, 2048, 2)):
        encoder = {"d": d, "ffn": ffn, "e": 1.0, "depth": 1, "layers": layers}
        head = {"d": 256, "points": [4, 4, 4], "layers": 6, "ffn": 1024}
        found[f"rtdetrv2-hgnetv2-{size}"] = model("rtdetrv2", {**hg(name), "naming": "v2"}, encoder, head, PLAIN)
    return found


def plan_of(config: Config, nc: int | str = "nc") -> rows.Plan:
    """Return the rows of a whole model with official prefixes; the last row is the head."""
    plan = rows.Plan()
    maps = rows.add_backbone(plan, config["backbone"], "backbone.")
    levels = rows.add_encoder(plan, config["encoder"], maps, "encoder.")
    name, args = rows.head_row(config["head"], nc)
    plan.add(levels, name, args)
    return plan


def yaml_of(config: Config, nc: int) -> dict[str, Any]:
    """Return a whole model as a mapping that `DFINEDetectionModel` builds."""
    plan = plan_of(config, nc)
    made = [[row.source, row.repeats, row.module, row.args] for row in plan.rows]
    first = rows.Plan()
    rows.add_backbone(first, config["backbone"])
    end = len(first.rows)
    return {"nc": nc, "backbone": made[:end], "head": made[end:]}


OFFICIAL = {  # family of the official lists -> stem of the YAML
    "dfine": "dfine-{}",
    "dfine_obj365": "dfine-{}",
    "deim": "deim-{}",
    "deimv2": "deimv2-{}",
    "deimv2_dinov3": "deimv2-{}",
    "rtdetrv2": "rtdetrv2-{}",
    "deim_rtdetrv2": "deim-rtdetrv2-{}",
    "rtdetrv4": "deim-{}",
}
VARIANTS: dict[str, Config] = {  # of the head; the weights are those of the stock model but for the points
    "-dsp": {"method": "discrete"},
    "-sp1": {"points": [1, 1, 1]},
    "-sp2": {"points": [2, 2, 2]},
    "-sp3": {"points": [3, 3, 3]},
}


def stem_of(family: str, size: str) -> str:
    """Return the stem of the YAML of a stock model."""
    size = size.replace("_", "-")
    if family == "deimv2" and size in ("s", "m", "l", "x"):
        size = f"hgnetv2-{size}"
    return OFFICIAL[family].format(size)


def official(family: str, size: str) -> tuple[str | dict[str, Any], Config, int]:
    """Return the YAML (its name, or a mapping for a variant), configuration and class count of a stock model."""
    nc = 366 if family == "dfine_obj365" else 80
    stem = stem_of(family, size)
    ending = next((e for e in VARIANTS if stem.endswith(e)), "")
    config = stock()[stem.removesuffix(ending)]
    if not ending:
        return f"{stem}.yaml", config, nc
    config = {**config, "head": {**config["head"], **VARIANTS[ending]}}
    return yaml_of(config, nc), config, nc
