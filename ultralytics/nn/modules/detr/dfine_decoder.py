"""Decoder of D-FINE: box edges as distributions that each layer refines (arXiv 2410.13842, section 3.1).

Shapes: B batch, Q queries, N tokens of all levels, D hidden width, L layers, R + 1 bins, nc classes. Boxes are cx, cy,
w, h in 0..1 of the image. Boolean masks: True = blocked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.models.utils.distribution import decode_edges
from ultralytics.nn.modules.attention import SelfAttention, attend
from ultralytics.nn.modules.deformable import LevelShapes, PointReading
from ultralytics.nn.modules.detr.distribution import Integral, LocationQuality
from ultralytics.nn.modules.detr.gate import Float32RMSNorm, Gate, SwiGLU
from ultralytics.nn.modules.transformer import MSDeformAttn
from ultralytics.nn.modules.utils import add_clamped, at_least_float32, refine_box

__all__ = ("FineDecoder", "FineDecoderLayer", "FineForm", "FineHeads", "FineLayers")


@dataclass(frozen=True)
class FineForm:
    """What the families built on D-FINE's decoder differ in; the defaults are D-FINE's.

    Attributes:
        act: Activation of the feed-forward parts, the MLPs and the location quality.
        modern: RMSNorm and SwiGLU in place of LayerNorm and the plain feed-forward part, no projection of the tokens,
            and one query position for all layers (DEIMv2).
        gated: Self- and cross-attention are joined by a gate; else added.
        share_boxes: One box head serves all layers.
        share_scores: One score head serves all layers.
        discrete: Deformable attention reads whole cells.
        layer_scale: Layers after the one used in evaluation are this many times as wide.
    """

    act: type[nn.Module] = nn.ReLU
    modern: bool = False
    gated: bool = True
    share_boxes: bool = False
    share_scores: bool = False
    discrete: bool = False
    layer_scale: int = 1


class FineDecoderLayer(nn.Module):
    """Decoder layer: self-attention, deformable cross-attention without projections, gate, feed-forward; post-norm.

    Args:
        d_model: Width D.
        n_heads: Heads of both attentions.
        d_ffn: Width of the feed-forward part; with SwiGLU half of it is gated.
        points: Sampling points of each level.
        form: What families differ in.
    """

    def __init__(self, d_model: int, n_heads: int, d_ffn: int, points: Sequence[int], form: FineForm) -> None:
        super().__init__()
        norm: type[nn.Module] = Float32RMSNorm if form.modern else nn.LayerNorm
        self.self_attn = SelfAttention(d_model, n_heads)
        self.norm1 = norm(d_model)
        reading = PointReading(form.discrete, rounding=0.5)
        self.cross_attn = MSDeformAttn(d_model, len(points), n_heads, points, projected=False, reading=reading)
        self.gateway = Gate(d_model, norm) if form.gated else None
        self.norm2 = None if form.gated else norm(d_model)
        self.ffn: nn.Module = SwiGLU(d_model, d_ffn // 2) if form.modern else _FeedForward(d_model, d_ffn, form.act)
        self.norm3 = norm(d_model)

    def forward(
        self,
        embed: Tensor,
        refer_bbox: Tensor,
        feats: Tensor,
        shapes: LevelShapes,
        attn_mask: Tensor | None = None,
        query_pos: Tensor | None = None,
    ) -> Tensor:
        """Return updated queries (B, Q, D).

        Args:
            embed: (B, Q, D) queries.
            refer_bbox: (B, Q, 4) boxes in 0..1.
            feats: (B, N, D) tokens of all levels.
            shapes: (H, W) of each level.
            attn_mask: (Q, Q), True = may not attend.
            query_pos: (B, Q, D), added to queries and keys.
        """

        def with_pos(x: Tensor) -> Tensor:
            return x if query_pos is None else x + query_pos

        x = self.norm1(embed + attend(self.self_attn, with_pos(embed), embed, attn_mask))
        cross = self.cross_attn(with_pos(x), refer_bbox.unsqueeze(2), feats, shapes)
        if self.gateway is not None:
            x = self.gateway(x, cross)
        elif self.norm2 is not None:
            x = self.norm2(x + cross)
        return self.norm3(add_clamped(x, self.ffn(x)))


class _FeedForward(nn.Module):
    """Two linear layers with an activation between them; Xavier weights, as the decoders of D-FINE start."""

    def __init__(self, d_model: int, d_ffn: int, act: type[nn.Module]) -> None:
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ffn)
        self.act = act()
        self.linear2 = nn.Linear(d_ffn, d_model)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw Xavier weights."""
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        return self.linear2(self.act(self.linear1(x)))


class FineHeads(NamedTuple):
    """The head's modules that the decoder calls."""

    boxes: nn.ModuleList  # per layer, D -> 4 * (R + 1)
    scores: nn.ModuleList  # per layer, D -> nc
    first_box: Callable[[Tensor], Tensor]  # D -> 4 box-logit steps, after the first layer
    position: Callable[[Tensor], Tensor]  # boxes (B, Q, 4) -> (B, Q, D)


class FineLayers(NamedTuple):
    """Outputs of K layers: of all in training, else of one, without `pre_boxes` and `pre_logits`."""

    logits: Tensor  # (K, B, Q, nc)
    boxes: Tensor  # (K, B, Q, 4)
    corners: Tensor  # (K, B, Q, 4 * (R + 1))
    refs: Tensor  # (B, Q, 4), the box from which the distances of all layers count, detached
    pre_boxes: Tensor | None  # (B, Q, 4), that box with its gradient
    pre_logits: Tensor | None  # (B, Q, nc)


class FineDecoder(nn.Module):
    """Stack of decoder layers; each adds to the logits of the edge distributions of the one before.

    Args:
        hidden_dim: Width D.
        n_heads: Attention heads.
        d_ffn: Width of the feed-forward parts.
        points: Sampling points of each level.
        num_layers: Layers L.
        eval_idx: Layer whose output is used in evaluation; counted from the end when negative.
        reg_max: Number of bins less one, R.
        form: What families differ in.
    """

    def __init__(
        self,
        hidden_dim: int,
        n_heads: int,
        d_ffn: int,
        points: Sequence[int],
        num_layers: int,
        eval_idx: int,
        reg_max: int,
        form: FineForm,
    ) -> None:
        super().__init__()
        self.eval_idx = eval_idx if eval_idx >= 0 else num_layers + eval_idx
        self.reg_max = reg_max
        self.one_position = form.modern
        self.widths = [hidden_dim * (form.layer_scale if i > self.eval_idx else 1) for i in range(num_layers)]
        self.layers = nn.ModuleList(
            FineDecoderLayer(w, n_heads, d_ffn * (w // hidden_dim), points, form) for w in self.widths
        )
        self.lqe_layers = nn.ModuleList(LocationQuality(4, 64, 2, reg_max, form.act) for _ in range(num_layers))
        self.integral = Integral(reg_max)

    def forward(
        self,
        embed: Tensor,
        refer_bbox: Tensor,
        feats: Tensor,
        shapes: LevelShapes,
        heads: FineHeads,
        bins: Tensor,
        reg_scale: Tensor,
        attn_mask: Tensor | None = None,
    ) -> FineLayers:
        """Refine the edges layer by layer.

        Args:
            embed: (B, Q, D) queries.
            refer_bbox: (B, Q, 4) box logits.
            feats: (B, N, D) tokens.
            shapes: (H, W) of each level.
            heads: Box, score and position heads.
            bins: (R + 1,), see `bin_weights`.
            reg_scale: One number, see `bin_weights`.
            attn_mask: (Q, Q), True = may not attend.
        """
        refer = at_least_float32(refer_bbox).sigmoid()
        first = base = refer
        corners: Tensor | float = 0.0
        before = torch.zeros_like(embed)  # output of the layer before, detached
        position = self._position(heads, refer, embed)
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        last = len(self.layers) - 1 if self.training else self.eval_idx
        start = embed
        for i in range(last + 1):
            if i and not self.one_position:
                position = self._position(heads, refer, embed)
            embed, feats, before, position = (_widened(t, self.widths[i]) for t in (embed, feats, before, position))
            embed = self.layers[i](embed, refer, feats, shapes, attn_mask, position)
            if i == 0:
                start, first = embed, refine_box(heads.first_box(embed), refer)
                base = first.detach()
            corners = at_least_float32(heads.boxes[i](embed + before)) + corners
            boxes = decode_edges(base, self.integral(corners, bins), reg_scale)
            if self.training or i == last:
                found.append((self.lqe_layers[i](heads.scores[i](embed), corners), boxes, corners))
            refer, before = boxes.detach(), embed.detach()
        logits, all_boxes, all_corners = (torch.stack(part) for part in zip(*found, strict=True))
        layers = FineLayers(logits, all_boxes, all_corners, base, None, None)
        return layers._replace(pre_boxes=first, pre_logits=heads.scores[0](start)) if self.training else layers

    @staticmethod
    def _position(heads: FineHeads, refer: Tensor, like: Tensor) -> Tensor:
        """Return the position embedding of reference boxes, bounded as the projects bound it."""
        return heads.position(refer.to(like.dtype)).clamp(-10, 10)


def _widened(x: Tensor, width: int) -> Tensor:
    """Return x (B, N, D) with its channels repeated to another width, or as it is where it has that width."""
    return x if x.shape[-1] == width else F.interpolate(x, size=width)
