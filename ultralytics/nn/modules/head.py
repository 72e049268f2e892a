"""The detection head of RT-DETR: query selection, denoising, decoder, and the rows that come out (arXiv 2304.08069).

Shapes: B batch, N tokens of all levels, D hidden width, Q queries, C classes, K decoder outputs, S denoising slots.
Boxes are cx, cy, w, h in 0..1 of the image; box logits are their inverse sigmoid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ultralytics.models.utils.denoising import get_cdn_group
from ultralytics.nn.modules.transformer import (
    MLP,
    Activation,
    DeformableTransformerDecoder,
    DeformableTransformerDecoderLayer,
)
from ultralytics.nn.modules.utils import (
    at_least_float32,
    bias_init_with_prob,
    contiguous_gradient,
    is_recorded,
    smallest,
)
from ultralytics.nn.registry import Plan, RowContext, register
from ultralytics.utils.errors import ConfigError

__all__ = ("DecoderOutput", "RTDETRDecoder")


class DecoderOutput(NamedTuple):
    """Everything that the loss reads; unpacks in this order.

    With denoising, the first S of the S + Q queries of the decoder are denoising queries.
    """

    dec_bboxes: Tensor  # [K, B, S + Q, 4]
    dec_scores: Tensor  # [K, B, S + Q, C] logits
    enc_bboxes: Tensor  # [B, Q, 4]
    enc_scores: Tensor  # [B, Q, C] logits
    dn_meta: dict[str, Any] | None


class _Anchors(NamedTuple):
    """Anchors of one set of map shapes."""

    logits: Tensor  # [1, N, 4], infinite where invalid
    valid: Tensor  # [1, N, 1]
    usable: int  # number of valid ones


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


def _head_rule(row: RowContext) -> Plan:
    """`[nc, ...]` -> (nc, channels of all inputs, ...)."""
    return Plan((row.args[0], list(row.in_channels), *row.args[1:]), row.in_channels[-1])


def _check_options(nq: int, ndl: int, eval_idx: int, nd: int, box_noise_scale: float) -> None:
    """Raise ConfigError for the first option outside its bounds: some would give no rows, others fail in training."""
    for name, count, low in (("nq", nq, 1), ("ndl", ndl, 1), ("nd", nd, 0)):
        if isinstance(count, bool) or not isinstance(count, int) or count < low:
            raise ConfigError(f"{name}={count!r} must be a whole number, at least {low}")
    if not isinstance(eval_idx, int) or not -ndl <= eval_idx < ndl:
        raise ConfigError(f"eval_idx={eval_idx!r} must be a decoder layer, -{ndl} to {ndl - 1}; -1 is the last")
    if not isinstance(box_noise_scale, (int, float)) or not box_noise_scale >= 0:
        raise ConfigError(f"box_noise_scale={box_noise_scale!r} must be a number, at least 0")


@register(_head_rule, multi_input=True, is_head=True)
class RTDETRDecoder(nn.Module):
    """RT-DETR head. YAML: `RTDETRDecoder, [nc]`, from a list of levels, finest first.

    Args:
        nc: Number of classes.
        ch: Channels of each level.
        hd: Hidden width D.
        nq: Queries.
        ndp: Sampling points of deformable attention.
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

    Attributes:
        classes: Only these class indices can come out; None for all. Applied before the top-k, so none is crowded out.
        max_det: Bound on the rows of an exported model.
        export: Return the rows alone.
        dynamic: Map shapes may differ from call to call in one exported graph: do not keep anchors.
        selector: Called instead of `best_tokens`, to look at the query selection or to prescribe it.
    """

    export: bool = False
    format: str | None = None
    dynamic: bool = False
    max_det: int = 300
    classes: Sequence[int] | None = None
    selector: Callable[[Tensor, int], Tensor] | None = None
    _anchors: tuple[tuple[object, ...], _Anchors] | None = None  # last anchors with what they were made for

    def __init__(
        self,
        nc: int = 80,
        ch: Sequence[int] = (512, 1024, 2048),
        hd: int = 256,
        nq: int = 300,
        ndp: int = 4,
        nh: int = 8,
        ndl: int = 6,
        d_ffn: int = 1024,
        dropout: float = 0.0,
        act: Activation = None,
        eval_idx: int = -1,
        nd: int = 100,
        label_noise_ratio: float = 0.5,
        box_noise_scale: float = 1.0,
        learnt_init_query: bool = False,
        discrete: bool = False,
    ) -> None:
        super().__init__()
        _check_options(nq, ndl, eval_idx, nd, box_noise_scale)
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
        layer = DeformableTransformerDecoderLayer(hd, nh, d_ffn, dropout, act, self.nl, ndp)
        layer.cross_attn.discrete = discrete
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
            x: One map [B, channels, H, W] per level.
            batch: Targets for denoising in training: `cls`, `bboxes`, `gt_groups`; see `get_cdn_group`.
            aux_groups: Further groups of Q queries in training, from the next best tokens. Each group sees only itself
                and is matched by itself, so that a target trains several queries (Group DETR, arXiv 2207.13085;
                RT-DETRv3, arXiv 2409.08475); they do not exist in evaluation.

        Returns:
            In training a `DecoderOutput`. In evaluation (rows, `DecoderOutput`), when exporting the rows alone:
            [B, rows, 6] with cx, cy, w, h in 0..1, score, class; best first, of all pairs of query and class.
        """
        feats, shapes = self._get_encoder_input(x)
        anchors = self._get_anchors(shapes, feats)
        queries = smallest(self.num_queries * (1 + aux_groups * self.training), anchors.usable)
        content, logits, mask, meta = get_cdn_group(
            batch,
            self.nc,
            queries,
            self.denoising_class_embed.weight,
            self.num_denoising,
            self.label_noise_ratio,
            self.box_noise_scale,
            self.training,
        )
        if self.training and queries > self.num_queries:
            mask = self._separate_groups(mask, queries, feats.device)
        embed, refer, enc_bboxes, enc_scores = self._get_decoder_input(feats, anchors, queries)
        if content is not None and logits is not None:
            embed = torch.cat((content.to(embed.dtype), embed), 1)  # [B, S + Q, D]
            refer = torch.cat((logits.to(refer.dtype), refer), 1)  # [B, S + Q, 4]
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
        """Block the attention between groups of queries, the last ones of the mask [S + Q', S + Q'], True = blocked."""
        group = torch.arange(queries, device=device) // self.num_queries  # [Q']
        apart = group[:, None] != group
        if mask is None:
            return apart
        mask = mask.clone()
        mask[-queries:, -queries:] |= apart
        return mask

    def postprocess(self, boxes: Tensor, logits: Tensor) -> Tensor:
        """Return the best pairs of query and class as rows [B, rows, 6]: cx, cy, w, h, score, class.

        Args:
            boxes: [B, Q, 4].
            logits: [B, Q, C].
        """
        wanted = None if self.classes is None else torch.as_tensor(list(self.classes), device=logits.device)
        if wanted is not None:
            logits = logits.index_select(-1, wanted)
        classes = logits.shape[-1]
        flat = at_least_float32(logits).flatten(1)  # [B, Q*C]
        keep = smallest(self.num_queries, flat.shape[1], *([self.max_det] if self.export else []))
        best, index = flat.topk(keep, 1)  # the sigmoid keeps the order, so it is taken of the few only
        label = index % classes if wanted is None else wanted[index % classes]
        query = torch.div(index, classes, rounding_mode="floor")[..., None].expand(-1, -1, 4)
        columns = (boxes.gather(1, query), best.sigmoid()[..., None], label[..., None].to(boxes.dtype))
        return torch.cat(columns, -1)  # [B, rows, 6]

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
        """Project all levels to D and lay them one after another: tokens [B, N, D] and the (H, W) of each level."""
        maps = [project(level) for project, level in zip(self.input_proj, x, strict=True)]
        shapes = [list(level.shape[2:]) for level in maps]
        return torch.cat([contiguous_gradient(level).flatten(2).transpose(1, 2) for level in maps], 1), shapes

    def _get_decoder_input(
        self, feats: Tensor, anchors: _Anchors, queries: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Select the most confident tokens: content [B, Q, D], box logits, boxes [B, Q, 4], score logits [B, Q, C]."""
        memory = self.enc_output(feats)  # [B, N, D]
        scores = self.enc_score_head(memory)  # [B, N, C]
        confidence = scores.detach().amax(-1)  # [B, N]
        if is_recorded() or anchors.usable < confidence.shape[1]:
            confidence = confidence.masked_fill(~anchors.valid[..., 0], -torch.inf)
        pick = self.best_tokens if self.selector is None else self.selector
        index = pick(confidence, queries)[..., None]  # [B, Q, 1]
        content = memory.gather(1, index.expand(-1, -1, memory.shape[-1]))
        reference = anchors.logits.expand(feats.shape[0], -1, -1).gather(1, index.expand(-1, -1, 4))
        refer = at_least_float32(self.enc_bbox_head(content)) + reference
        enc_scores = scores.gather(1, index.expand(-1, -1, scores.shape[-1]))
        enc_bboxes = refer.sigmoid()
        if self.learnt_init_query:
            start = self.tgt_embed.weight
            start = start[:queries] if queries <= len(start) else start[torch.arange(queries) % len(start)]
            content = start.expand(feats.shape[0], -1, -1)
        if self.training:  # the encoder learns from its own output, not through the decoder
            refer = refer.detach()
            content = content if self.learnt_init_query else content.detach()
        return content, refer, enc_bboxes, enc_scores

    @staticmethod
    def best_tokens(confidence: Tensor, queries: int) -> Tensor:
        """Return the places [B, Q] of the most confident tokens, from confidences [B, N]."""
        return confidence.topk(queries, 1).indices

    def _get_anchors(self, shapes: Sequence[Sequence[int]], like: Tensor) -> _Anchors:
        """Return anchors for these map shapes, from memory when they are the last ones."""
        if self.dynamic or torch.compiler.is_compiling():  # kept ones would fit no other size
            return self._generate_anchors(shapes, device=like.device)
        key = (tuple(map(tuple, shapes)), like.device)
        kept = self._anchors  # looked at once: other threads may put those of their size there
        if kept is None or kept[0] != key:
            with torch.inference_mode(False):  # an inference tensor could not serve a later training step
                self._anchors = kept = key, self._generate_anchors(shapes, device=like.device)
        return kept[1]

    @staticmethod
    def _generate_anchors(
        shapes: Sequence[Sequence[int]],
        grid_size: float = 0.05,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        eps: float = 1e-2,
    ) -> _Anchors:
        """Return one anchor per cell: its centre, with side `grid_size` * 2^level.

        An anchor is valid where all four numbers lie between eps and 1 - eps. The number of valid ones bounds the
        queries, so that no other is ever selected. It is computed from the map shapes alone, which may be symbols of
        an exported graph.
        """
        parts = []
        for level, (h, w) in enumerate(shapes):
            y, x = torch.meshgrid(
                (torch.arange(h, dtype=dtype, device="cpu") + 0.5) / h,
                (torch.arange(w, dtype=dtype, device="cpu") + 0.5) / w,
                indexing="ij",
            )
            side = torch.full_like(x, grid_size * 2.0**level)
            parts.append(torch.stack((x, y, side, side), -1).flatten(0, 1))  # [H*W, 4]
        boxes = torch.cat(parts)[None]  # [1, N, 4]
        valid = ((boxes > eps) & (boxes < 1 - eps)).all(-1, keepdim=True)
        logits = torch.log(boxes / (1 - boxes)).masked_fill(~valid, torch.inf)
        count = _count_valid(shapes, grid_size, eps)
        logits, valid = logits.to(device, non_blocking=True), valid.to(device, non_blocking=True)
        return _Anchors(logits, valid, count)


def _count_valid(shapes: Sequence[Sequence[int]], grid_size: float, eps: float) -> int:
    """Return how many anchors are valid: eps < side of the level < 1 - eps, and for cell i of n so is (i + 0.5) / n.

    At either end of a line of n cells round(n * eps) fall away, halves rounded up; eps is the inverse of a whole one.
    """
    per = round(1 / eps)
    count = 0
    for level, (h, w) in enumerate(shapes):
        if eps < grid_size * 2.0**level < 1 - eps:
            rows, columns = (n - 2 * ((2 * n + per) // (2 * per)) for n in (h, w))
            count = count + rows * columns
    return count
