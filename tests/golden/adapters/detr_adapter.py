"""Adapter of the golden cases of the newer DETR families: builds what a case describes and names its keys officially."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tests.golden.adapters import detr_losses as losses
from tests.golden.adapters import detr_models as models
from tests.golden.adapters import detr_plans as plans
from tests.golden.adapters import detr_rows as rows
from tests.golden.adapters.detr_losses import targets_of
from ultralytics.models.utils.denoising import DenoisingForm, DenoisingNoise, get_cdn_group
from ultralytics.models.utils.distribution import bin_weights, decode_edges, encode_edges
from ultralytics.nn.checkpoint.detr_names import KeyRole, key_roles, official_names
from ultralytics.nn.modules.block import HGBlock, HGStem, RepC3, ResNetDBlock, SCDown
from ultralytics.nn.modules.block import ResNetDBottleneck
from ultralytics.nn.modules.conv import Conv, LightConv, RepConv, fuse_children
from ultralytics.nn.modules.deformable import PointReading
from ultralytics.nn.modules.detr import deimv2_backbone, gate
from ultralytics.nn.modules.detr.dfine_decoder import FineDecoderLayer, FineForm
from ultralytics.nn.modules.detr.dfine_head import FineOutput
from ultralytics.nn.modules.detr.distribution import Integral, LocationQuality
from ultralytics.nn.modules.detr.encoder import GlobalFusion, RepELAN4, RepELAN5, SplitRepC3
from ultralytics.nn.modules.detr.hgnetv2 import AffineConv, AffineLightConv, LearnableAffine
from ultralytics.nn.modules.detr.rtdetrv2_decoder import RTDETRDecoderv2
from ultralytics.nn.modules.head import DecoderOutput
from ultralytics.nn.modules.transformer import (
    AIFI,
    MLP,
    DeformableTransformerDecoderLayer,
    MSDeformAttn,
    TransformerEncoderLayer,
)
from ultralytics.nn.tasks import DFINEDetectionModel
from ultralytics.nn.modules.utils import inverse_sigmoid, multi_scale_deformable_attn_pytorch
from ultralytics.nn.registry import REGISTRY, RowContext
from ultralytics.nn.build.names import resolve_nn_text

Config = dict[str, Any]
Names = Callable[[Config, str], list[str]]

ACTS = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU, None: nn.ReLU}


# ------------------------------------------------------------------------------------------------------------- blocks
def hg_conv(c: Config) -> nn.Module:
    act = ACTS[c.get("act")]() if c["use_act"] else False
    if c["lab"] and c["use_act"]:
        return AffineConv(c["c1"], c["c2"], c["k"], c["s"], g=c.get("g", 1), act=act)
    return Conv(c["c1"], c["c2"], c["k"], c["s"], g=c.get("g", 1), act=act)


def hg_light(c: Config) -> nn.Module:
    return (AffineLightConv if c["lab"] else LightConv)(c["c1"], c["c2"], c["k"])


def hg_block(c: Config) -> nn.Module:
    return HGBlock(c["c1"], c["cm"], c["c2"], c["k"], c["n"], c["light"], c["residual"], None, c["lab"])


def hg_stage(c: Config) -> nn.Module:
    plan = rows.Plan()
    end = rows.add_stage(plan, -1, c, c["c1"], c["lab"], "")
    return rows.Part(plan.rows, [end], [c["c1"]])


def hgnet(c: Config) -> nn.Module:
    plan = rows.Plan()
    outs = rows.add_hgnet(plan, c)
    part = rows.Part(plan.rows, outs, [3])
    return rows.freeze_norms(part) if c.get("frozen_norm") else part


def resnet(c: Config) -> nn.Module:
    plan = rows.Plan()
    outs = rows.add_resnet(plan, c)
    return rows.Part(plan.rows, outs, [3])


def vd_block(c: Config) -> nn.Module:
    wide = c["block"] == "BottleNeck"
    block = ResNetDBottleneck if wide else ResNetDBlock
    return block(c["c1"], c["c2"] * (4 if wide else 1), c["s"], not c["shortcut"])


def vd_names(c: Config, key: str) -> list[str]:
    short = "short.conv." if c["s"] == 2 else "short."
    return [rows.Row(0, 1, "", [], "", ((r"^shortcut\.", short), *rows.VD_BRANCH)).official(key)]


def encoder(c: Config) -> nn.Module:
    plan = rows.Plan()
    sources = [-1 - i for i in range(len(c["ch"]))]
    outs = rows.add_encoder(plan, c, sources)
    return rows.Part(plan.rows, outs, c["ch"])


def part_names(obj: nn.Module) -> Names:
    return lambda c, key: rows.row_names(obj.rows, key)  # type: ignore[arg-type]


def renamed(rename: rows.Rename) -> Names:
    row = rows.Row(0, 1, "", [], "", rename)
    return lambda c, key: [row.official(key)]


def same(c: Config, key: str) -> list[str]:
    return [key]


# ----------------------------------------------------------------------------------------------------- decoder parts
def attention(c: Config) -> MSDeformAttn:
    reading = PointReading(c["method"] == "discrete", 0.5)
    return MSDeformAttn(c["d"], c["levels"], c["heads"], c["points"], c["family"] == "rtdetrv2", reading)


def decoder_layer(c: Config) -> nn.Module:
    if c["family"] == "rtdetrv2":
        reading = PointReading(c["method"] == "discrete", 0.5)
        return DeformableTransformerDecoderLayer(
            c["d"], c["heads"], c["ffn"], 0.0, ACTS[c.get("act")], c["levels"], c["points"], reading
        )
    form = FineForm(
        ACTS[c.get("act")], c["family"] == "deimv2", c.get("gateway", True), discrete=c["method"] == "discrete"
    )
    return FineDecoderLayer(c["d"], c["heads"], c["ffn"], c["points"], form)


def layer_names(c: Config, key: str) -> list[str]:
    return [
        n.removeprefix("decoder.layers.0.")
        for n in rows.head_names({"family": c["family"], "layers": 1}, f"decoder.layers.0.{key}")
    ]


def head(c: Config) -> nn.Module:
    name, args = rows.head_row(c, c["nc"])
    entry = REGISTRY.get(name)
    assert entry is not None and entry.rule is not None
    args = tuple(resolve_nn_text(a) for a in args)
    plan = entry.rule(RowContext(tuple(c["ch"]), args))
    if c.get("layer_scale", 1) > 1:
        options = dict(
            eval_idx=c["eval_idx"], nd=c["denoising"], form=FineForm(ACTS[c["act"]], layer_scale=c["layer_scale"])
        )
        return entry.cls(*plan.args[:10], **options)
    return entry.cls(*plan.args)


def sampling(c: Config, value: Tensor, shapes: Any, locations: Tensor, weights: Tensor) -> Tensor:
    if c["method"] == "discrete":
        width, heads = value.shape[2] * value.shape[3], value.shape[2]
        layer = MSDeformAttn(width, len(shapes), heads, c["points"], False, PointReading(True, 0.5))
        locations = layer._to_cells(locations, shapes)
    return multi_scale_deformable_attn_pytorch(value, shapes, locations, weights, c["points"])


def distances(c: Config, reference: Tensor, boxes: Tensor) -> dict[str, Tensor]:
    bins = bin_weights(c["reg_max"], torch.tensor(c["up"]), torch.tensor(c["reg_scale"])).to(reference)
    target = encode_edges(reference, boxes, bins, c["reg_scale"])
    return {"target": target.bin.flatten(), "right": target.right.flatten(), "left": target.left.flatten()}


# -------------------------------------------------------------------------------------------------------------- tables
def _elan(c: Config) -> nn.Module:
    return RepELAN4(c["c1"], c["c2"], c["c3"], c["c4"], c["n"], c.get("csp") == "csp2")


MODULES: dict[str, tuple[Callable[[Config], nn.Module], Names]] = {
    "LearnableAffine": (lambda c: LearnableAffine(), same),
    "HGConv": (hg_conv, same),
    "HGLightConv": (hg_light, same),
    "HGStem": (lambda c: HGStem(c["c1"], c["cm"], c["c2"], c["lab"]), same),
    "HGBlock": (hg_block, renamed(rows.HG_BLOCK)),
    "ResNetVdBlock": (vd_block, vd_names),
    "ConvNorm": (
        lambda c: Conv(c["c1"], c["c2"], c["k"], c["s"], g=c.get("g", 1), act=ACTS[c["act"]]()),
        renamed(rows.CONV),
    ),
    "VGGBlock": (lambda c: RepConv(c["c1"], c["c2"], act=ACTS[c["act"]]()), renamed(rows.CONV)),
    "CSPLayer": (lambda c: RepC3(c["c1"], c["c2"], c["n"], c["e"]), renamed(rows.REP_C3)),
    "CSPLayer2": (lambda c: SplitRepC3(c["c1"], c["c2"], c["n"], c["e"]), renamed(rows.REP_C3)),
    "SCDown": (lambda c: SCDown(c["c1"], c["c2"], c["k"], c["s"], False), renamed(rows.CONV)),
    "RepNCSPELAN4": (_elan, renamed(rows.ELAN)),
    "RepNCSPELAN5": (lambda c: RepELAN5(c["c1"], c["c2"], c["c3"], c["c4"], c["n"]), renamed(rows.ELAN)),
    "GAPFusion": (lambda c: GlobalFusion(c["d"]), renamed(rows.CONV)),
    "EncoderLayer": (lambda c: TransformerEncoderLayer(c["d"], c["ffn"], c["heads"]), renamed(rows.AIFI)),
    "DeformableAttention": (attention, same),
    "DecoderLayer": (decoder_layer, layer_names),
    "Gate": (
        lambda c: gate.Gate(c["d"], gate.Float32RMSNorm if c["rms"] else None),
        lambda c, k: [k.replace("norm.weight", "norm.scale") if c["rms"] else k],
    ),
    "RMSNorm": (lambda c: gate.Float32RMSNorm(c["d"]), lambda c, k: ["scale"]),
    "SwiGLU": (lambda c: gate.SwiGLU(c["d"], c["hidden"]), same),
    "MLP": (lambda c: MLP(c["c1"], c["hidden"], c["c2"], c["layers"], ACTS[c["act"]]), same),
    "LQE": (lambda c: LocationQuality(c["k"], c["hidden"], c["layers"], c["reg_max"], ACTS[c["act"]]), same),
    "Head": (head, rows.head_names),
    "SpatialPrior": (lambda c: deimv2_backbone.SpatialPrior(c["c"]), same),
    "ViTTiny": (
        lambda c: deimv2_backbone.TinyViT(c["d"], c["heads"], c["depth"], c["out"]),
        lambda c, k: [f"_model.{k}"],
    ),
    "STA": (
        lambda c: deimv2_backbone.ViTAdapter(c["d"], c["heads"], c["depth"], c["out"], c["c"], c["hidden"]),
        renamed(rows.VIT),
    ),
}
PARTS: dict[str, Callable[[Config], nn.Module]] = {
    "HGStage": hg_stage,
    "HGNetv2": hgnet,
    "ResNetVd": resnet,
    "Encoder": encoder,
}


def _weighting(c: Config) -> Tensor:
    return bin_weights(c["reg_max"], torch.tensor(c["up"]), torch.tensor(c["reg_scale"]))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "DeformableSampling": sampling,
    "Integral": lambda c, corners: Integral(c["reg_max"])(corners, _weighting(c)),
    "Weighting": _weighting,
    "DistanceToBox": lambda c, reference, distance: decode_edges(reference, distance, c["reg_scale"]),
    "BoxToDistance": distances,
    "FlatCosine": plans.flat_cosine,
    "LinearWarmup": plans.linear_warmup,
    "EMADecay": plans.ema_decay,
    "AugmentPlan": plans.augment_plan,
    "Scales": plans.scales,
    "Mixup": plans.mixup,
    "CopyBlend": plans.copyblend,
    "Matcher": losses.matcher,
    "MatchUnion": losses.union,
    "DenoisingMatch": losses.denoising_match,
    "PostProcess": losses.post,
    "InverseSigmoid": lambda c, x: inverse_sigmoid(x),
    "PositionEmbedding": lambda c: AIFI.build_2d_sincos_position_embedding(c["w"], c["h"], c["d"], c["temperature"]),
}


# --------------------------------------------------------------------------------------------------- the adapter's doors
def build(kind: str, config: Config) -> Any:
    """Return the module of a case, or None where the kind is a function."""
    if kind in MODULES:
        return MODULES[kind][0](config)
    if kind in PARTS:
        return PARTS[kind](config)
    if kind == "Criterion":
        return losses.criterion(config)
    if kind in ("Model", "ModelLoss"):
        return DFINEDetectionModel(models.yaml_of(config, config["head"]["nc"]), verbose=False)
    if kind == "Official":
        cfg, stock, nc = models.official(config["family"], config["size"])
        with torch.device("meta"):
            model = DFINEDetectionModel(cfg, nc=nc, verbose=False)
            if config["family"] == "rtdetrv4":  # its projection for the distillation is not part of our networks
                model.feature_projector = nn.Sequential(nn.Linear(stock["encoder"]["d"], 768))
            return model
    if kind == "Init":
        return MODULES[config["of"]][0](config["config"])
    return None


def names_of(obj: nn.Module, kind: str, config: Config, key: str) -> list[str]:
    """Return the official names of one of our keys."""
    if kind == "Criterion":
        return []
    if kind in ("Model", "ModelLoss", "Official"):
        return model_names(obj, config, key)
    if kind in MODULES:
        return MODULES[kind][1](config, key)
    return rows.row_names(obj.rows, key)  # type: ignore[arg-type]


def model_names(obj: nn.Module, config: Config, key: str) -> list[str]:
    """Return the official names of a key of a whole model, as the package gives them."""
    if key.startswith("feature_projector."):
        return [f"encoder.{key}"]
    if key.endswith("denoising_class_embed.weight") and not config.get("head", {}).get("denoising", 100):
        return []
    names = official_names(key, _roles(json.dumps(obj.yaml)))
    if config.get("backbone", {}).get("kind") != "hgnetv2" or config["backbone"].get("naming") == "v2":
        return names
    first = {"aggregation_squeeze_conv.": "aggregation.0.", "aggregation_excitation_conv.": "aggregation.1."}
    first |= {f"{stem}.conv.1.": f"{stem}.conv." for stem in ("stem2a", "stem2b")}
    return [functools.reduce(lambda n, old: n.replace(old, first[old]), first, name) for name in names]


@functools.cache
def _roles(yaml: str) -> dict[int, KeyRole]:
    return key_roles(json.loads(yaml))


def official_state(obj: nn.Module, kind: str, config: Config) -> dict[str, Tensor]:
    """Return the state dict under official names."""
    return {name: value for key, value in obj.state_dict().items() for name in names_of(obj, kind, config, key)}


def load(obj: nn.Module, kind: str, config: Config, state: Mapping[str, Tensor]) -> None:
    """Put official tensors in; raise for those that are missing."""
    own = {}
    for key in obj.state_dict():
        names = [n for n in names_of(obj, kind, config, key) if n in state]
        if names:
            own[key] = state[names[0]]
    used = {n for key in own for n in names_of(obj, kind, config, key)}
    unused = set(state) - used
    if unused:
        raise RuntimeError(f"not taken: {sorted(unused)[:4]}")
    obj.load_state_dict(own, strict=False)


def grads(obj: nn.Module, kind: str, config: Config) -> dict[str, Tensor | None]:
    """Return gradients under official names."""
    return {name: p.grad for key, p in obj.named_parameters() for name in names_of(obj, kind, config, key)}


def fuse(obj: nn.Module, kind: str, config: Config) -> nn.Module:
    """Return the deployed form."""
    own = getattr(obj, "fuse", None)
    return fuse_children(own() if callable(own) else obj)


def noise_of(noise: Callable[[int, int], Mapping[str, Tensor]]) -> Callable[[int, int], DenoisingNoise]:
    """Return prescribed noise in the form of the head."""
    return lambda images, slots: DenoisingNoise(**noise(images, slots))


def run_head(obj: nn.Module, maps: Any, targets: Any = None, noise: Any = None) -> dict[str, Tensor]:
    """Run a head (or a model whose last layer is one) and name what comes out."""
    last = obj.model[-1] if hasattr(obj, "model") else obj
    if noise is not None:
        crossed = isinstance(last, RTDETRDecoderv2)  # the project's negatives collapse where ours span their corners
        last.denoising = dataclasses.replace(type(last).denoising, noise=noise_of(noise), spanned=not crossed)
    batch = targets_of(targets) if targets is not None else None
    out = obj.predict(maps, batch=batch) if hasattr(obj, "predict") else obj(maps, batch)
    return named_output(out if obj.training else out[1], obj.training)


def model_loss(config: Config, obj: nn.Module, image: Tensor, targets: Any, noise: Any, epoch: int = 0) -> Any:
    """Return the losses of a whole model by name."""
    outputs = run_head(obj, image, targets, noise)
    meta = losses.denoising_meta([len(t["labels"]) for t in targets], groups_of(targets, config["head"]["denoising"]))
    criterion = losses.criterion(config["criterion"])
    outputs = {k: v for k, v in outputs.items() if criterion.local is not None or not k.endswith(("corners", "refs"))}
    return losses.run_criterion(criterion, config["criterion"], targets, epoch, meta=meta, **outputs)


def groups_of(targets: Any, slots: int) -> int:
    """Return the number of denoising groups."""
    return max(slots // max(len(t["labels"]) for t in targets), 1)


def named_output(raw: DecoderOutput | FineOutput, training: bool) -> dict[str, Tensor]:
    """Return the outputs of a head by the names of the cases."""
    fine = isinstance(raw, FineOutput)
    values: dict[str, Tensor | None] = {
        "logits": raw.logits if fine else raw.dec_scores,
        "boxes": raw.boxes if fine else raw.dec_bboxes,
    }
    if not training:
        return {k: v[-1] for k, v in values.items() if v is not None}
    if fine:
        values |= {"corners": raw.corners, "refs": raw.refs, "pre_logits": raw.pre_logits, "pre_boxes": raw.pre_boxes}
    found: dict[str, Tensor] = {}
    for name, value in values.items():
        assert value is not None
        if raw.dn_meta is not None:
            axis = 2 if value.dim() == 4 else 1
            found[f"dn_{name}"], value = value.split(raw.dn_meta["dn_num_split"], axis)
        found[name] = value
    found["enc_logits"] = raw.enc_logits if fine else raw.enc_scores
    found["enc_boxes"] = raw.enc_boxes if fine else raw.enc_bboxes
    return found


def denoising_group(c: Config, targets: Any, weight: Tensor, noise: Any) -> Any:
    """Return a denoising group by the names of the cases."""
    form = DenoisingForm(True, False, c["family"] != "deim", c["family"] != "rtdetrv2", noise_of(noise))
    content, boxes, mask, meta = get_cdn_group(
        targets_of(targets), c["nc"], c["queries"], weight, c["denoising"], c["label_noise"], c["box_noise"], True, form
    )
    if meta is None:
        return {"none": torch.tensor(True)}
    return {
        "content": content,
        "boxes": boxes,
        "mask": mask,
        "positives": list(meta["dn_pos_idx"]),
        "groups": torch.tensor(meta["dn_num_group"]),
        "split": torch.tensor(meta["dn_num_split"]),
    }


def call(kind: str, config: Config, obj: Any, inputs: list[Any], kwargs: dict[str, Any]) -> Any:
    """Run a case."""
    if kind in ("Head", "Model"):
        return run_head(obj, *inputs, **kwargs)
    if kind == "ModelLoss":
        return model_loss(config, obj, *inputs, **kwargs)
    if kind == "Init":
        state = official_state(obj, config["of"], config["config"])
        scale = {f"decoder.layers.{i}.cross_attn.num_points_scale": points_scale(obj, i) for i in range(1)}
        return {k: {**state, **scale}[k] for k in config["keys"]}
    if kind in ("HGStage", "HGNetv2", "ResNetVd", "Encoder"):
        outs = obj(*inputs)
        return outs[0] if kind == "HGStage" else outs
    if kind == "EncoderLayer":
        return obj(inputs[0], pos=kwargs["pos_embed"])
    if kind == "DecoderLayer":
        embed, refer, value, shapes = inputs
        return obj(embed, refer[:, :, 0], value, shapes, attn_mask=kwargs["attn_mask"], query_pos=kwargs["pos"])
    if kind == "Criterion":
        return losses.run_criterion(obj, config, *inputs, **kwargs)
    if kind == "DenoisingGroup":
        return denoising_group(config, **kwargs)
    if kind in FUNCTIONS:
        return FUNCTIONS[kind](config, *inputs, **kwargs)
    return obj(*inputs, **kwargs)


def points_scale(obj: nn.Module, layer: int) -> Tensor:
    """Return 1 over the points of its level for each point, which ours computes when it runs."""
    points = obj.decoder.layers[layer].cross_attn.points  # type: ignore[index, union-attr]
    return torch.tensor([1 / p for p in points for _ in range(p)])
