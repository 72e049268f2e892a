"""Detection heads of D-FINE, DEIM and DEIMv2 (arXiv 2410.13842, 2412.04234, 2509.20787).

Shapes: B batch, N tokens of all levels, D hidden width, Q queries, nc classes, L layers, S denoising slots, R + 1 bins.
Boxes are cx, cy, w, h in 0..1 of the image; box logits are their inverse sigmoid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ultralytics.models.utils.denoising import DenoisingForm, DenoisingMeta, get_cdn_group
from ultralytics.models.utils.distribution import bin_weights
from ultralytics.nn.modules.detr.dfine_decoder import FineDecoder, FineForm, FineHeads, FineLayers
from ultralytics.nn.modules.detr.projections import LevelProjections
from ultralytics.nn.modules.query_head import Anchors, QueryHead, check_head_options, head_rule
from ultralytics.nn.modules.transformer import MLP
from ultralytics.nn.modules.utils import at_least_float32, bias_init_with_prob, sym_min
from ultralytics.nn.registry import register
from ultralytics.utils.errors import ConfigError

__all__ = ("DEIMDecoder", "DFINEDecoder", "FineOutput")


class FineOutput(NamedTuple):
    """Everything that the loss reads; with denoising, the first S of the S + Q queries are denoising queries."""

    logits: Tensor  # (L, B, S + Q, nc); one layer in evaluation
    boxes: Tensor  # (L, B, S + Q, 4)
    corners: Tensor  # (L, B, S + Q, 4 * (R + 1))
    refs: Tensor  # (B, S + Q, 4), what the distances of all layers count from
    pre_boxes: Tensor | None  # (B, S + Q, 4), None in evaluation
    pre_logits: Tensor | None  # (B, S + Q, nc), None in evaluation
    enc_boxes: Tensor  # (B, Q, 4)
    enc_logits: Tensor  # (B, Q, nc), or one class
    dn_meta: DenoisingMeta | None


@register(head_rule, multi_input=True, is_head=True)
class DFINEDecoder(QueryHead):
    """D-FINE head. YAML: `DFINEDecoder, [nc, hd, nq, points, nh, ndl, d_ffn, reg_max, reg_scale]`, finest level first.

    Args:
        nc: Number of classes.
        ch: Channels of each level.
        hd: Hidden width D.
        nq: Queries.
        points: Sampling points of each level; more levels than inputs are made by strided convolutions.
        nh: Attention heads.
        ndl: Decoder layers.
        d_ffn: Width of the feed-forward parts.
        reg_max: Number of bins of an edge less one, R.
        reg_scale: Curvature of the bins.
        act: Activation of the feed-forward parts and MLPs: ReLU when None; DEIM has SiLU.
        eval_idx: Decoder layer whose output is used in evaluation; counted from the end when negative.
        nd: Denoising slots (positives); 0 for no denoising.
        label_noise_ratio: See `get_cdn_group`.
        learnt_init_query: Queries start from a learnt embedding, not from the selected tokens.
        select: `default`: the tokens whose best class is most confident; `one2many`: the best pairs of token and class;
            `agnostic`: by one score for all classes.
        form: What families differ in; D-FINE's when None.

    Further attributes: see `QueryHead`, and `noise`: prescribed denoising noise, see `DenoisingForm`.
    """

    denoising = DenoisingForm(padded=True, capped=False, dummy=True)

    def __init__(
        self,
        nc: int = 80,
        ch: Sequence[int] = (256, 256, 256),
        hd: int = 256,
        nq: int = 300,
        points: Sequence[int] = (3, 6, 3),
        nh: int = 8,
        ndl: int = 6,
        d_ffn: int = 1024,
        reg_max: int = 32,
        reg_scale: float = 4.0,
        act: type[nn.Module] | None = None,
        eval_idx: int = -1,
        nd: int = 100,
        label_noise_ratio: float = 0.5,
        learnt_init_query: bool = False,
        select: str = "default",
        form: FineForm | None = None,
    ) -> None:
        super().__init__()
        check_head_options(nq, ndl, eval_idx, nd, 1.0)
        self.check_select(select)
        form = FineForm(act=act or nn.ReLU) if form is None else form
        self.nc, self.nl, self.num_queries, self.num_denoising = nc, len(points), nq, nd
        self.hidden_dim, self.nhead, self.num_decoder_layers = hd, nh, ndl
        self.reg_max, self.select, self.label_noise_ratio = reg_max, select, label_noise_ratio
        self.learnt_init_query = learnt_init_query
        self.up = nn.Parameter(torch.tensor([0.5]), requires_grad=False)
        self.reg_scale = nn.Parameter(torch.tensor([float(reg_scale)]), requires_grad=False)
        self.input_proj = LevelProjections(ch, hd, len(points), skip_equal=True)
        self.decoder = FineDecoder(hd, nh, d_ffn, points, ndl, eval_idx, reg_max, form)
        self.denoising_class_embed = nn.Embedding(nc + 1, hd)
        if learnt_init_query:
            self.tgt_embed = nn.Embedding(nq, hd)
        self.query_pos_head = MLP(4, hd, hd, 3, form.act) if form.modern else MLP(4, 2 * hd, hd, 2, form.act)
        self.enc_output = None if form.modern else nn.Sequential(nn.Linear(hd, hd), nn.LayerNorm(hd))
        self.enc_score_head = nn.Linear(hd, 1 if select == "agnostic" else nc)
        self.enc_bbox_head = MLP(hd, hd, 4, 3, form.act)
        self.pre_bbox_head = MLP(hd, hd, 4, 3, form.act)
        widths = self.decoder.widths
        self.dec_score_head = nn.ModuleList(nn.Linear(w, nc) for w in (widths[:1] if form.share_scores else widths))
        bins = 4 * (reg_max + 1)
        self.dec_bbox_head = nn.ModuleList(
            MLP(w, w, bins, 3, form.act) for w in (widths[:1] if form.share_boxes else widths)
        )
        self.reset_parameters()

    def extra_repr(self) -> str:
        """Name the sizes."""
        return f"nc={self.nc}, queries={self.num_queries}, denoising={self.num_denoising}, reg_max={self.reg_max}"

    def reset_parameters(self) -> None:
        """Draw the head's own initial values: score prior 0.01 for any class count, box steps zero, Xavier elsewhere.

        Children have their own `reset_parameters`; call those first (`Module.apply` does).
        """
        for score in (self.enc_score_head, *self.dec_score_head):
            nn.init.constant_(score.get_parameter("bias"), bias_init_with_prob(0.01))
        for bbox in (self.enc_bbox_head, self.pre_bbox_head, *self.dec_bbox_head):
            last = cast("MLP", bbox).layers[-1]
            nn.init.zeros_(last.get_parameter("weight"))
            nn.init.zeros_(last.get_parameter("bias"))
        drawn: list[nn.Module] = [*self.query_pos_head.layers, *self.input_proj.convolutions()]
        if self.enc_output is not None:
            drawn.append(self.enc_output[0])
        if self.learnt_init_query:
            drawn.append(self.tgt_embed)
        for layer in drawn:
            nn.init.xavier_uniform_(layer.get_parameter("weight"))

    def forward(
        self, x: Sequence[Tensor], batch: Mapping[str, Any] | None = None
    ) -> FineOutput | tuple[Tensor, FineOutput] | Tensor:
        """Detect objects in feature maps; arguments and rows (B, rows, 6) as those of `RTDETRDecoder`.

        Returns:
            In training a `FineOutput`. In evaluation (rows, `FineOutput`), when exporting the rows alone.
        """
        feats, shapes = self.input_proj(x)
        anchors = self._get_anchors(shapes, feats)
        queries = sym_min(self.num_queries, anchors.usable)
        table = self.denoising_class_embed.weight
        content, logits, mask, meta = get_cdn_group(
            batch,
            self.nc,
            queries,
            table,
            self.num_denoising,
            self.label_noise_ratio,
            training=self.training,
            form=self.denoising,
        )
        embed, refer, enc_boxes, enc_logits = self._queries(feats, anchors, queries)
        if content is not None and logits is not None:
            embed = torch.cat((content.to(embed.dtype), embed), 1)  # (B, S + Q, D)
            refer = torch.cat((logits.to(refer.dtype), refer), 1)  # (B, S + Q, 4)
        layers = self._decode(embed, refer, feats, shapes, mask)
        if self.training and meta is None:
            # no denoising in this step: an empty sum ties the embedding to the loss, since DDP waits for its gradient
            layers = layers._replace(boxes=layers.boxes + table[:0].sum())
        raw = FineOutput(*layers, enc_boxes, enc_logits, meta)
        if self.training:
            return raw
        rows = self.postprocess(raw.boxes[-1], raw.logits[-1])
        return rows if self.export else (rows, raw)

    def fuse(self) -> DFINEDecoder:
        """Fold the BatchNorms of the input projections and drop what evaluation does not use, in place."""
        self.input_proj.fuse()
        used = self.decoder.eval_idx + 1
        for name in ("layers", "lqe_layers"):
            setattr(self.decoder, name, getattr(self.decoder, name)[:used])
        for name in ("dec_score_head", "dec_bbox_head"):
            setattr(self, name, getattr(self, name)[:used])
        return self

    def _decode(
        self, embed: Tensor, refer: Tensor, feats: Tensor, shapes: list[list[int]], mask: Tensor | None
    ) -> FineLayers:
        count = self.num_decoder_layers
        heads = FineHeads(
            _for_all(self.dec_bbox_head, count),
            _for_all(self.dec_score_head, count),
            self.pre_bbox_head,
            self.query_pos_head,
        )
        bins = bin_weights(self.reg_max, self.up, self.reg_scale)
        return self.decoder(embed, refer, feats, shapes, heads, bins, self.reg_scale, mask)

    def _queries(self, feats: Tensor, anchors: Anchors, queries: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Select the most confident tokens: content (B, Q, D), box logits, boxes (B, Q, 4), score logits (B, Q, nc)."""
        memory = feats if self.enc_output is None else self.enc_output(feats)  # (B, N, D)
        scores = self.enc_score_head(memory)  # (B, N, nc)
        index = self.selected(scores, anchors, queries, self.select)[..., None]  # (B, Q, 1)
        content = memory.gather(1, index.expand(-1, -1, memory.shape[-1]))
        reference = anchors.logits.expand(feats.shape[0], -1, -1).gather(1, index.expand(-1, -1, 4))
        refer = at_least_float32(self.enc_bbox_head(content)) + reference
        enc_scores = scores.gather(1, index.expand(-1, -1, scores.shape[-1]))
        start = self.start_of_queries(content, queries) if self.learnt_init_query else content.detach()
        return start, refer.detach(), refer.sigmoid(), enc_scores


def _for_all(heads: nn.ModuleList, count: int) -> nn.ModuleList:
    """Return a head for each layer; one that is shared serves all."""
    return heads if len(heads) > 1 else nn.ModuleList([heads[0]] * count)


@register(head_rule, multi_input=True, is_head=True)
class DEIMDecoder(DFINEDecoder):
    """DEIMv2 head: D-FINE's with SiLU, RMSNorm, SwiGLU, one query position and no projection of the tokens.

    YAML: `DEIMDecoder, [nc, hd, nq, points, nh, ndl, d_ffn, reg_max, reg_scale, gated, share_boxes]`. Arguments as
    those of `DFINEDecoder`, and of `FineForm`; DEIM's first version is a `DFINEDecoder` with SiLU.
    """

    def __init__(
        self,
        nc: int = 80,
        ch: Sequence[int] = (256, 256, 256),
        hd: int = 256,
        nq: int = 300,
        points: Sequence[int] = (3, 6, 3),
        nh: int = 8,
        ndl: int = 6,
        d_ffn: int = 1024,
        reg_max: int = 32,
        reg_scale: float = 4.0,
        gated: bool = True,
        share_boxes: bool = False,
        share_scores: bool = False,
        eval_idx: int = -1,
        nd: int = 100,
        label_noise_ratio: float = 0.5,
    ) -> None:
        form = FineForm(nn.SiLU, modern=True, gated=gated, share_boxes=share_boxes, share_scores=share_scores)
        if d_ffn % 2:
            raise ConfigError(f"d_ffn={d_ffn} must be even: half of it is gated")
        super().__init__(
            nc, ch, hd, nq, points, nh, ndl, d_ffn, reg_max, reg_scale, None, eval_idx, nd, label_noise_ratio, form=form
        )
