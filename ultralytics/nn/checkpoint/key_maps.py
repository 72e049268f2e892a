"""Key names of other projects' weights and the keys that their tensors have here; data, used by `remap`.

Each row is a pattern for a whole key and what it becomes (`re` syntax; an empty string drops the key: constants that
are computed here). The first matching row is used. Layer numbers are those of the YAML that the format names. How the
names were found: `timm` and `transformers` models were built at random and their state dicts listed; those of
torchvision are in its public model classes. Those of lyuwenyu/RT-DETR are the ones that a library listed which loads
that project's backbone files (libreyolo 1.6.0, built at random).
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class WeightFormat:
    """The weight format of another project or library.

    `marker` is a pattern of a key that only this format has. `rows` map keys; `joins` name tensors that are parts of
    one of ours: (pattern of the parts, order, target). `eps` is the batch-norm epsilon that the weights were trained
    with. `yamls` maps the shape of one characteristic tensor to the model YAML. `note` is logged. `drop_padding_rows`
    are keys of class tensors with one row for padding; `add_batch_counters`: batch norms lack `num_batches_tracked`.
    """

    name: str
    marker: str
    rows: tuple[tuple[str, str], ...]
    eps: float
    yamls: tuple[tuple[str, tuple[int, ...], str], ...] = ()
    joins: tuple[tuple[str, tuple[str, ...], str], ...] = ()
    drop_padding_rows: tuple[str, ...] = ()
    note: str = ""
    add_batch_counters: bool = True


def _conv(source: str, target: str, norm: str = "norm", conv: str = "conv") -> tuple[tuple[str, str], ...]:
    """Rows of a convolution and its batch norm."""
    last = re.compile(source).groups + 1
    return (
        (rf"{source}\.{conv}\.weight", f"{target}.conv.weight"),
        (rf"{source}\.{norm}\.(.+)", rf"{target}.bn.\{last}"),
    )


_PROJECTIONS = (14, 9, 5)  # fine to coarse
_HF_BACKBONE = r"model\.backbone\.model\."
_HF_STAGE = _HF_BACKBONE + r"encoder\.stages\.{}\.layers\.(\d+)\."
_HF_ATTENTION = r"self_attn\.(?:out|o)_proj\.(weight|bias)"
_HF_PARTS = r"self_attn\.(q|k|v)_proj\.(weight|bias)"
_HF_LAYER = r"model\.decoder\.layers\.(\d+)\."
_HF_AIFI = r"model\.encoder\.(?:encoder|aifi)\.0\.layers\.0\."

_RESNETS = (
    ("model.1.layer.2.cv1.conv.weight", (64, 64, 3, 3), "rtdetr-resnet34.yaml"),
    ("model.1.layer.0.cv1.conv.weight", (64, 64, 3, 3), "rtdetr-resnet18.yaml"),
    ("model.3.layer.22.cv3.conv.weight", (1024, 256, 1, 1), "rtdetr-resnet101vd.yaml"),
    ("model.11.cv3.conv.weight", (256, 128, 1, 1), "rtdetr-resnet50vd-m.yaml"),
    ("model.1.layer.0.cv3.conv.weight", (256, 64, 1, 1), "rtdetr-resnet50vd.yaml"),
)


def _hf_backbone() -> tuple[tuple[str, str], ...]:
    names = {"conv": "convolution", "norm": "normalization"}
    rows: tuple[tuple[str, str], ...] = ()
    for k in range(3):
        rows += _conv(_HF_BACKBONE + rf"embedder\.embedder\.{k}", f"model.0.conv{k + 1}", names["norm"], names["conv"])
    for stage in range(4):
        prefix, target = _HF_STAGE.format(stage), rf"model.{stage + 1}.layer.\1"
        rows += _conv(prefix + r"shortcut(?:\.1)?", f"{target}.shortcut", names["norm"], names["conv"])
        for k in range(3):
            rows += _conv(prefix + rf"layer\.{k}", f"{target}.cv{k + 1}", names["norm"], names["conv"])
    return rows


def _fusion(prefix: str) -> tuple[tuple[str, str], ...]:
    """Rows of the encoder's convolutions, to which both writers of RT-DETR give the same names."""
    rows: tuple[tuple[str, str], ...] = ()
    blocks = {"fpn_blocks.0": 11, "fpn_blocks.1": 16, "pan_blocks.0": 19, "pan_blocks.1": 22}
    for name, layer in blocks.items():
        source = prefix + name.replace(".", r"\.")
        rows += _conv(rf"{source}\.bottlenecks\.(\d+)\.conv(\d)", rf"model.{layer}.m.\1.conv\2")
        rows += _conv(rf"{source}\.conv(\d)", rf"model.{layer}.cv\1")
    convs = {"lateral_convs.0": 7, "lateral_convs.1": 12, "downsample_convs.0": 17, "downsample_convs.1": 20}
    for name, layer in convs.items():
        rows += _conv(prefix + name.replace(".", r"\."), f"model.{layer}")
    return rows


def _hf_encoder() -> tuple[tuple[str, str], ...]:
    rows = _fusion(r"model\.encoder\.")
    for level, layer in enumerate(_PROJECTIONS):
        rows += _conv(rf"model\.encoder_input_proj\.{level}", f"model.{layer}", "1", "0")
    return (
        *rows,
        (_HF_AIFI + _HF_ATTENTION, r"model.6.ma.out_proj.\1"),
        (_HF_AIFI + r"self_attn_layer_norm\.(.+)", r"model.6.norm1.\1"),
        (_HF_AIFI + r"final_layer_norm\.(.+)", r"model.6.norm2.\1"),
        (_HF_AIFI + r"(?:mlp\.)?fc(\d)\.(.+)", r"model.6.fc\1.\2"),
    )


_HF_DECODER = (
    (_HF_LAYER + _HF_ATTENTION, r"model.23.decoder.layers.\1.self_attn.out_proj.\2"),
    (_HF_LAYER + r"self_attn_layer_norm\.(.+)", r"model.23.decoder.layers.\1.norm1.\2"),
    (_HF_LAYER + r"encoder_attn_layer_norm\.(.+)", r"model.23.decoder.layers.\1.norm2.\2"),
    (_HF_LAYER + r"final_layer_norm\.(.+)", r"model.23.decoder.layers.\1.norm3.\2"),
    (_HF_LAYER + r"encoder_attn\.n_points_scale", ""),
    (_HF_LAYER + r"encoder_attn\.(.+)", r"model.23.decoder.layers.\1.cross_attn.\2"),
    (_HF_LAYER + r"(?:mlp\.)?fc(\d)\.(.+)", r"model.23.decoder.layers.\1.linear\2.\3"),
    (r"model\.decoder_input_proj\.(.+)", r"model.23.input_proj.\1"),
    (r"model\.decoder\.query_pos_head\.(.+)", r"model.23.query_pos_head.\1"),
    (r"model\.decoder\.class_embed\.(.+)", r"model.23.dec_score_head.\1"),
    (r"model\.decoder\.bbox_embed\.(.+)", r"model.23.dec_bbox_head.\1"),
    (r"model\.(enc_(?:output|score_head|bbox_head)\..+)", r"model.23.\1"),
    (r"model\.(denoising_class_embed\.weight)", r"model.23.\1"),
    (r"model\.(?:encoder\.)?(?:anchors|valid_mask)", ""),
    (r"(?:class|bbox)_embed\..+", ""),  # a second name of the decoder's heads
)

HF = WeightFormat(
    name="Hugging Face RT-DETR",
    marker=r"model\.encoder\.(?:lateral_convs|fpn_blocks)\.0\..+",
    rows=(*_hf_backbone(), *_hf_encoder(), *_HF_DECODER),
    joins=(
        (_HF_AIFI + _HF_PARTS, ("q", "k", "v"), r"model.6.ma.in_proj_\2"),
        (_HF_LAYER + _HF_PARTS, ("q", "k", "v"), r"model.23.decoder.layers.\1.self_attn.in_proj_\3"),
    ),
    drop_padding_rows=("model.23.denoising_class_embed.weight",),  # one row more, for padding
    eps=1e-5,
    yamls=_RESNETS,
)

_LYU_STAGE = r"backbone\.res_layers\.{}\.blocks\.(\d+)\."
_LYU_AIFI = r"encoder\.encoder\.0\.layers\.0\."


def _lyu_rows() -> tuple[tuple[str, str], ...]:
    """Version 1 counts the parts of a few projections (0, 1), version 2 names them (conv or proj, norm)."""
    rows = _fusion(r"encoder\.")
    for k in range(1, 4):
        rows += _conv(rf"backbone\.conv1\.conv1_{k}", f"model.0.conv{k}")
    for stage in range(4):
        prefix, target = _LYU_STAGE.format(stage), rf"model.{stage + 1}.layer.\1"
        rows += _conv(prefix + r"short(?:\.conv)?", f"{target}.shortcut")
        for k, letter in enumerate("abc", 1):
            rows += _conv(prefix + f"branch2{letter}", f"{target}.cv{k}")
    for level, layer in enumerate(_PROJECTIONS):
        rows += _conv(rf"encoder\.input_proj\.{level}", f"model.{layer}", "(?:1|norm)", "(?:0|conv)")
    return (
        *rows,
        (_LYU_AIFI + r"self_attn\.(.+)", r"model.6.ma.\1"),
        (_LYU_AIFI + r"norm(\d)\.(.+)", r"model.6.norm\1.\2"),
        (_LYU_AIFI + r"linear(\d)\.(.+)", r"model.6.fc\1.\2"),
        (r"decoder\.(?:anchors|valid_mask)", ""),
        (r"decoder\.decoder\.layers\.\d+\.cross_attn\.num_points_scale", ""),
        (r"decoder\.(input_proj\.\d+|enc_output)\.(?:0|conv|proj)\.(.+)", r"model.23.\1.0.\2"),
        (r"decoder\.(input_proj\.\d+|enc_output)\.(?:1|norm)\.(.+)", r"model.23.\1.1.\2"),
        (r"decoder\.((?:decoder\.layers|(?:enc|dec)_(?:score|bbox)_head|query_pos_head)\..+)", r"model.23.\1"),
        (r"decoder\.(denoising_class_embed\.weight)", r"model.23.\1"),
    )


LYU = WeightFormat(
    name="lyuwenyu/RT-DETR",
    marker=r"backbone\.res_layers\.0\.blocks\.0\.branch2a\.conv\.weight",
    rows=_lyu_rows(),
    drop_padding_rows=("model.23.denoising_class_embed.weight",),
    eps=1e-5,
    yamls=_RESNETS,
)

_TIMM_BLOCK = r"stages\.{}\.blocks\.{}\."


def _timm_hgnet(blocks: dict[tuple[int, int], int], downs: dict[int, int]) -> tuple[tuple[str, str], ...]:
    rows: tuple[tuple[str, str], ...] = ((r"stem\.(.+)", r"model.0.\1"), (r"head\..+", ""))
    rows += tuple((rf"stages\.{stage}\.downsample\.(.+)", rf"model.{layer}.\1") for stage, layer in downs.items())
    for (stage, block), layer in blocks.items():
        prefix = _TIMM_BLOCK.format(stage, block)
        rows += (
            (prefix + r"layers\.(.+)", rf"model.{layer}.m.\1"),
            (prefix + r"aggregation\.0\.(.+)", rf"model.{layer}.sc.\1"),
            (prefix + r"aggregation\.1\.(.+)", rf"model.{layer}.ec.\1"),
        )
    return rows


HGNET_L = WeightFormat(
    name="timm HGNetv2-B4",
    marker=r"stages\.2\.blocks\.2\.aggregation\.0\.conv\.weight",
    rows=_timm_hgnet({(0, 0): 1, (1, 0): 3, (2, 0): 5, (2, 1): 6, (2, 2): 7, (3, 0): 9}, {1: 2, 2: 4, 3: 8}),
    eps=1e-5,
    yamls=(("model.7.sc.conv.weight", (512, 2176, 1, 1), "rtdetr-hgnetv2-l.yaml"),),
    note="backbone of rtdetr-hgnetv2-l.yaml",
)
HGNET_X = WeightFormat(
    name="timm HGNetv2-B5",
    marker=r"stages\.2\.blocks\.4\.aggregation\.0\.conv\.weight",
    rows=_timm_hgnet(
        {(0, 0): 1, (1, 0): 3, (1, 1): 4, **{(2, k): 6 + k for k in range(5)}, (3, 0): 12, (3, 1): 13},
        {1: 2, 2: 5, 3: 11},
    ),
    eps=1e-5,
    yamls=(("model.12.ec.conv.weight", (2048, 1024, 1, 1), "rtdetr-x.yaml"),),
    note="backbone of rtdetr-x.yaml",
)

TORCHVISION = WeightFormat(
    name="torchvision ResNet-50 or -101",
    marker=r"layer1\.0\.conv3\.weight",
    rows=(
        (r"conv1\.weight", "model.0.layer.0.conv.weight"),
        (r"bn1\.(.+)", r"model.0.layer.0.bn.\1"),
        *((rf"layer{k}\.(\d+)\.conv(\d)\.weight", rf"model.{k}.layer.\1.cv\2.conv.weight") for k in range(1, 5)),
        *((rf"layer{k}\.(\d+)\.bn(\d)\.(.+)", rf"model.{k}.layer.\1.cv\2.bn.\3") for k in range(1, 5)),
        *((rf"layer{k}\.0\.downsample\.0\.weight", f"model.{k}.layer.0.shortcut.0.conv.weight") for k in range(1, 5)),
        *((rf"layer{k}\.0\.downsample\.1\.(.+)", rf"model.{k}.layer.0.shortcut.0.bn.\1") for k in range(1, 5)),
        (r"fc\..+", ""),
    ),
    eps=1e-5,
    yamls=(
        ("model.3.layer.22.cv3.conv.weight", (1024, 256, 1, 1), "rtdetr-resnet101.yaml"),
        ("model.3.layer.5.cv3.conv.weight", (1024, 256, 1, 1), "rtdetr-resnet50.yaml"),
    ),
    note="backbone of rtdetr-resnet50.yaml or -101; those blocks use SiLU where torchvision has ReLU, so fine-tune",
)

TIMM_SHVIT = WeightFormat(
    name="timm SHViT",
    marker=r"stages\.0\.blocks\.0\.conv\.m\.c\.weight",
    rows=(
        (r"(patch_embed|head)\.(.+)", r"\1.\2"),
        (r"stages\.0\.blocks\.(.+)", r"blocks1.\1"),
        *((rf"stages\.{i}\.downsample\.([01])\.(.+)", rf"blocks{i + 1}.0.\1.\2") for i in (1, 2)),
        *((rf"stages\.{i}\.downsample\.2\.(.+)", rf"blocks{i + 1}.1.\1") for i in (1, 2)),
        *((rf"stages\.{i}\.downsample\.{3 + n}\.(.+)", rf"blocks{i + 1}.2.{n}.\1") for i in (1, 2) for n in (0, 1)),
        *((rf"stages\.{i}\.blocks\.{j}\.(.+)", rf"blocks{i + 1}.{j + 3}.\1") for i in (1, 2) for j in range(16)),
    ),
    eps=1e-5,
    add_batch_counters=False,
)

WEIGHT_FORMATS = (HF, LYU, HGNET_X, HGNET_L, TIMM_SHVIT, TORCHVISION)
