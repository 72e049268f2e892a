"""The detection head of RT-DETR: query selection, denoising, decoder, and the rows that come out (arXiv 2304.08069).

Shapes: B batch, N tokens of all levels, D hidden width, Q queries, nc classes, K decoder outputs, S denoising slots.
Boxes are cx, cy, w, h in 0..1 of the image; box logits are their inverse sigmoid.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from ultralytics.models.utils.denoising import DenoisingForm, DenoisingMeta, get_cdn_group
from ultralytics.nn.modules.deformable import PointReading
from ultralytics.nn.modules.query_head import Anchors, QueryHead, check_head_options, head_rule
from ultralytics.nn.modules.transformer import (
    MLP,
    DeformableTransformerDecoder,
    DeformableTransformerDecoderLayer,
    LayerActivation,
)
from ultralytics.nn.modules.utils import (
    at_least_float32,
    bias_init_with_prob,
    contiguous_gradient,
    sym_min,
)
from ultralytics.nn.registry import register

__all__ = ("DecoderOutput", "RTDETRDecoder")


class DecoderOutput(NamedTuple):
    """Everything that the loss reads; unpacks in this order.

    With denoising, the first S of the S + Q queries of the decoder are denoising queries.
    """

    dec_bboxes: Tensor  # (K, B, S + Q, 4)
    dec_scores: Tensor  # (K, B, S + Q, nc) logits
    enc_bboxes: Tensor  # (B, Q, 4)
    enc_scores: Tensor  # (B, Q, nc) logits
    dn_meta: DenoisingMeta | None


class FoldedProjection(nn.Conv2d):
    """1x1 projection with its BatchNorm folded: `scale` multiplies the (small) weight, `bias` is the shift.

    Costs what a plain convolution costs. The scale stays apart from the weight, so a fused model reports the parameter
    count that users of this architecture know.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, 1, device=conv.weight.device, dtype=conv.weight.dtype)
        assert norm.running_mean is not None and norm.running_var is not None and self.bias is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        self.weight = nn.Parameter(conv.weight.detach().clone(), requires_grad=False)
        self.scale = nn.Parameter(scale.detach(), requires_grad=False)
        self.bias = nn.Parameter((norm.bias - norm.running_mean * scale).detach(), requires_grad=False)

    def forward(self, input: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        return self._conv_forward(input, self.scaled(), self.bias)

    def scaled(self) -> Tensor:
        """Return the weight times the scale."""
        return self.weight * self.scale[:, None, None, None]


@register(head_rule, multi_input=True, is_head=True)
class RTDETRDecoder(QueryHead):
    """RT-DETR head. YAML: `RTDETRDecoder, [nc]`, from a list of levels, finest first.

    Args:
        nc: Number of classes.
        ch: Channels of each level.
        hd: Hidden width D.
        nq: Queries.
        ndp: Sampling points of deformable attention, of all levels or of each.
        nh: Attention heads.
        ndl: Decoder layers.
        d_ffn: Width of the feed-forward parts.
        dropout: Dropout probability.
        act: Activation of the feed-forward parts; ReLU when None.
        eval_idx: Decoder layer whose output is used in evaluation; counted from the end when negative.
        nd: Denoising slots (positives); 0 for no denoising.
        label_noise_ratio: See `get_cdn_group`.
        box_noise_scale: See `get_cdn_group`.
        learnt_init_query: Queries start from a learnt embedding, not from the selected tokens.
        discrete: Deformable attention reads whole cells instead of interpolating (RT-DETRv2, arXiv 2407.17140, 3.1).

    Attributes: see `QueryHead`; and `denoising`: what families differ in, see `DenoisingForm`.
    """

    denoising = DenoisingForm()
    rounding: ClassVar[float] = 0.0
    """See `PointReading`."""

    def __init__(
        self,
        nc: int = 80,
        ch: Sequence[int] = (512, 1024, 2048),
        hd: int = 256,
        nq: int = 300,
        ndp: int | Sequence[int] = 4,
        nh: int = 8,
        ndl: int = 6,
        d_ffn: int = 1024,
        dropout: float = 0.0,
        act: LayerActivation = None,
        eval_idx: int = -1,
        nd: int = 100,
        label_noise_ratio: float = 0.5,
        box_noise_scale: float = 1.0,
        learnt_init_query: bool = False,
        discrete: bool = False,
    ) -> None:
        super().__init__()
        check_head_options(nq, ndl, eval_idx, nd, box_noise_scale)
        self.hidden_dim = hd
        self.nhead = nh
        self.nl = len(ch)
        self.nc = nc
        self.num_queries = nq
        self.num_decoder_layers = ndl
        self.num_denoising = nd
        self.label_noise_ratio = label_noise_ratio
        self.box_noise_scale = box_noise_scale
        self.learnt_init_query = learnt_init_query

        self.input_proj = nn.ModuleList(nn.Sequential(nn.Conv2d(c, hd, 1, bias=False), nn.BatchNorm2d(hd)) for c in ch)
        reading = PointReading(discrete, self.rounding)
        layer = DeformableTransformerDecoderLayer(hd, nh, d_ffn, dropout, act, self.nl, ndp, reading)
        self.decoder = DeformableTransformerDecoder(hd, layer, ndl, eval_idx)
        self.denoising_class_embed = nn.Embedding(nc, hd)
        if learnt_init_query:
            self.tgt_embed = nn.Embedding(nq, hd)
        self.query_pos_head = MLP(4, 2 * hd, hd, num_layers=2)
        self.enc_output = nn.Sequential(nn.Linear(hd, hd), nn.LayerNorm(hd))
        self.enc_score_head = nn.Linear(hd, nc)
        self.enc_bbox_head = MLP(hd, hd, 4, num_layers=3)
        self.dec_score_head = nn.ModuleList(nn.Linear(hd, nc) for _ in range(ndl))
        self.dec_bbox_head = nn.ModuleList(MLP(hd, hd, 4, num_layers=3) for _ in range(ndl))
        self.reset_parameters()

    def extra_repr(self) -> str:
        """Name the sizes."""
        return f"nc={self.nc}, queries={self.num_queries}, denoising={self.num_denoising}"

    def reset_parameters(self) -> None:
        """Draw the head's own initial values: score prior 0.01 for any class count, box steps zero, Xavier elsewhere.

        Children have their own `reset_parameters`; call those first (`Module.apply` does).
        """
        for score in (self.enc_score_head, *self.dec_score_head):
            nn.init.constant_(score.get_parameter("bias"), bias_init_with_prob(0.01))
        for bbox in (self.enc_bbox_head, *self.dec_bbox_head):
            last = cast("MLP", bbox).layers[-1]
            nn.init.zeros_(last.get_parameter("weight"))
            nn.init.zeros_(last.get_parameter("bias"))
        drawn = [self.enc_output[0], *self.query_pos_head.layers, *(p[0] for p in self._projections())]
        if self.learnt_init_query:
            drawn.append(self.tgt_embed)
        for layer in drawn:
            nn.init.xavier_uniform_(layer.get_parameter("weight"))

    def forward(
        self, x: Sequence[Tensor], batch: Mapping[str, Any] | None = None, aux_groups: int = 0
    ) -> DecoderOutput | tuple[Tensor, DecoderOutput] | Tensor:
        """Detect objects in feature maps.

        Args:
            x: One map (B, channels, H, W) per level.
            batch: Targets for denoising in training: `cls`, `bboxes`, `gt_groups`; see `get_cdn_group`.
            aux_groups: Further groups of Q queries in training, from the next best tokens. Each group sees only itself
                and is matched by itself, so that a target trains several queries (Group DETR, arXiv 2207.13085;
                RT-DETRv3, arXiv 2409.08475); they do not exist in evaluation.

        Returns:
            In training a `DecoderOutput`. In evaluation (rows, `DecoderOutput`), when exporting the rows alone:
            (B, rows, 6) with cx, cy, w, h in 0..1, score, class; best first, of all pairs of query and class.
        """
        feats, shapes = self._get_encoder_input(x)
        anchors = self._get_anchors(shapes, feats)
        queries = sym_min(self.num_queries * (1 + aux_groups * self.training), anchors.usable)
        content, logits, mask, meta = get_cdn_group(
            batch,
            self.nc,
            queries,
            self.denoising_class_embed.weight,
            self.num_denoising,
            self.label_noise_ratio,
            self.box_noise_scale,
            self.training,
            self.denoising,
        )
        if self.training and queries > self.num_queries:
            mask = self._separate_groups(mask, queries, feats.device)
        embed, refer, enc_bboxes, enc_scores = self._get_decoder_input(feats, anchors, queries)
        if content is not None and logits is not None:
            embed = torch.cat((content.to(embed.dtype), embed), 1)  # (B, S + Q, D)
            refer = torch.cat((logits.to(refer.dtype), refer), 1)  # (B, S + Q, 4)
        dec_bboxes, dec_scores = self.decoder(
            embed, refer, feats, shapes, self.dec_bbox_head, self.dec_score_head, self.query_pos_head, mask
        )
        if self.training and meta is None:
            # no denoising in this step: an empty sum ties the embedding to the loss, since DDP waits for its gradient
            dec_bboxes = dec_bboxes + self.denoising_class_embed.weight[:0].sum()
        raw = DecoderOutput(dec_bboxes, dec_scores, enc_bboxes, enc_scores, meta)
        if self.training:
            return raw
        rows = self.postprocess(dec_bboxes[-1], dec_scores[-1])
        return rows if self.export else (rows, raw)

    def _separate_groups(self, mask: Tensor | None, queries: int, device: torch.device) -> Tensor:
        """Block the attention between groups of queries, the last ones of the mask (S + Q', S + Q'), True = blocked."""
        group = torch.arange(queries, device=device) // self.num_queries  # (Q',)
        apart = group[:, None] != group
        if mask is None:
            return apart
        mask = mask.clone()
        mask[-queries:, -queries:] |= apart
        return mask

    def fuse(self) -> RTDETRDecoder:
        """Fold the BatchNorms of the input projections, in place; outputs in evaluation stay the same."""
        for projection in self._projections():
            conv, *norm = projection
            if norm and isinstance(conv, nn.Conv2d) and isinstance(norm[0], nn.BatchNorm2d):
                projection[0] = FoldedProjection(conv, norm[0])
                del projection[1]
        return self

    def _projections(self) -> list[nn.Sequential]:
        """Return the input projection of each level."""
        return [cast("nn.Sequential", projection) for projection in self.input_proj]

    def _get_encoder_input(self, x: Sequence[Tensor]) -> tuple[Tensor, list[list[int]]]:
        """Project all levels to D and lay them one after another: tokens (B, N, D) and the (H, W) of each level."""
        maps = [project(level) for project, level in zip(self.input_proj, x, strict=True)]
        shapes = [list(level.shape[2:]) for level in maps]
        return torch.cat([contiguous_gradient(level).flatten(2).transpose(1, 2) for level in maps], 1), shapes

    def _get_decoder_input(
        self, feats: Tensor, anchors: Anchors, queries: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Select the most confident tokens: content (B, Q, D), box logits, boxes (B, Q, 4), score logits (B, Q, nc)."""
        memory = self.enc_output(feats)  # (B, N, D)
        scores = self.enc_score_head(memory)  # (B, N, nc)
        index = self.selected(scores, anchors, queries)[..., None]  # (B, Q, 1)
        content = memory.gather(1, index.expand(-1, -1, memory.shape[-1]))
        reference = anchors.logits.expand(feats.shape[0], -1, -1).gather(1, index.expand(-1, -1, 4))
        refer = at_least_float32(self.enc_bbox_head(content)) + reference
        enc_scores = scores.gather(1, index.expand(-1, -1, scores.shape[-1]))
        enc_bboxes = refer.sigmoid()
        if self.learnt_init_query:
            content = self.start_of_queries(content, queries)
        if self.training:  # the encoder learns from its own output, not through the decoder
            refer = refer.detach()
            content = content if self.learnt_init_query else content.detach()
        return content, refer, enc_bboxes, enc_scores


def __getattr__(name: str) -> Any:
    """Look up heads that are defined above this module and that scripts import from here."""
    if name in {"Detect", "v10Detect"}:
        return getattr(importlib.import_module("ultralytics.nn.modules.yolo.detect"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
