"""Transformer parts of RT-DETR: encoder layer, AIFI, deformable attention, decoder (arXiv 2304.08069, 2010.04159).

Shapes: B batch, Q queries, N tokens of all levels, D hidden width, M heads, L levels, P points, nc classes, K outputs.
Boxes are cx, cy, w, h in 0..1 of the image; box logits are their inverse sigmoid. Boolean masks: True = blocked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.attention import SelfAttention, attend
from ultralytics.nn.modules.deformable import INTERPOLATED, LevelShapes, PointReading, should_project_after_sampling
from ultralytics.nn.modules.utils import (
    _get_clones,
    add_clamped,
    at_least_float32,
    contiguous_gradient,
    is_exporting,
    multi_scale_deformable_attn_pytorch,
    refine_box,
    sample_and_project,
)
from ultralytics.nn.modules.yolo.transformer import TransformerBlock, TransformerLayer
from ultralytics.nn.registry import Plan, RowContext, channels_first, register, without_alias
from ultralytics.utils.ops import constant_like

__all__ = (
    "AIFI",
    "MLP",
    "DeformableTransformerDecoder",
    "DeformableTransformerDecoderLayer",
    "MSDeformAttn",
    "TransformerBlock",
    "TransformerEncoderLayer",
    "TransformerLayer",
)

LayerActivation = nn.Module | type[nn.Module] | None


def _make_act(act: LayerActivation, default: type[nn.Module]) -> nn.Module:
    """Return an activation module from a module, a class, or None for the default class."""
    if act is None:
        return default()
    return act() if isinstance(act, type) else act


class MLP(nn.Module):
    """A stack of linear layers with an activation between them.

    Args:
        input_dim: Width of the input.
        hidden_dim: Width of all layers but the last.
        output_dim: Width of the output.
        num_layers: Number of linear layers.
        act: Class of the activation.
        sigmoid: Apply a sigmoid at the end.
        residual: Add the input to the output of the last layer; needs equal widths.
        out_norm: Norm module after the (residual) output.

    Raises:
        ValueError: `residual` with unequal widths.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        output_dim: int,
        num_layers: int,
        act: LayerActivation = nn.ReLU,
        sigmoid: bool = False,
        residual: bool = False,
        out_norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if residual and input_dim != output_dim:
            raise ValueError(f"MLP: residual=True needs equal widths, got {input_dim} in and {output_dim} out")
        self.num_layers = num_layers
        self.sigmoid = sigmoid
        self.residual = residual
        widths = [input_dim, *[hidden_dim] * (num_layers - 1), output_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.act = _make_act(act, nn.ReLU)
        self.out_norm = out_norm if out_norm is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., input_dim) to (..., output_dim)."""
        y = x
        for i, layer in enumerate(self.layers):
            y = layer(y) if i == self.num_layers - 1 else self.act(layer(y))
        y = self.out_norm(y + x if self.residual else y)
        return y.sigmoid() if self.sigmoid else y


class TransformerEncoderLayer(nn.Module):
    """Self-attention and feed-forward with residuals; norms after each (default) or before each (`normalize_before`).

    Args:
        c1: Width D of the tokens.
        cm: Width of the feed-forward part.
        num_heads: Attention heads.
        dropout: Dropout probability, at four places.
        act: Activation of the feed-forward part; GELU when None.
        normalize_before: Pre-norm instead of post-norm.
    """

    def __init__(
        self,
        c1: int,
        cm: int = 2048,
        num_heads: int = 8,
        dropout: float = 0.0,
        act: LayerActivation = None,
        normalize_before: bool = False,
    ) -> None:
        super().__init__()
        self.ma = SelfAttention(c1, num_heads, dropout=dropout, batch_first=True)
        self.fc1 = nn.Linear(c1, cm)
        self.fc2 = nn.Linear(cm, c1)
        self.norm1 = nn.LayerNorm(c1)
        self.norm2 = nn.LayerNorm(c1)
        self.dropout = nn.Dropout(dropout)
        self.dropout1 = nn.Dropout(dropout)
        self.dropout2 = nn.Dropout(dropout)
        self.act = _make_act(act, nn.GELU)
        self.normalize_before = normalize_before

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        pos: Tensor | None = None,
    ) -> Tensor:
        """Return tokens (B, Q, D) like `src`; `pos` is added to queries and keys, masks are as in `attend`."""

        def mix(x: Tensor) -> Tensor:
            return attend(self.ma, x if pos is None else x + pos, x, src_mask, src_key_padding_mask)

        if self.normalize_before:
            src = src + self.dropout1(mix(self.norm1(src)))
            return add_clamped(src, self._feed_forward(self.norm2(src)))
        src = self.norm1(src + self.dropout1(mix(src)))
        return self.norm2(add_clamped(src, self._feed_forward(src)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout2(self.fc2(self.dropout(self.act(self.fc1(x)))))


def _encoder_rule(row: RowContext) -> Plan:
    """`[cm, heads]` -> (c1, cm, heads); `attention=` (or `attn=`) or `mlp=` ask for the layer on maps instead."""
    plan, named = channels_first(row), without_alias(row.kwargs, "attn", "attention")
    return replace(plan, block="AttentionEncoderLayer", kwargs=named) if named.keys() & {"attention", "mlp"} else plan


@register(
    _encoder_rule,
    row="cm, num_heads, dropout, act, normalize_before, *, attention: str = None, mlp: str = None, attn: str = None",
)
class AIFI(TransformerEncoderLayer):
    """Intra-scale feature interaction: one encoder layer over the cells of a map (RT-DETR, arXiv 2304.08069, 4.2).

    YAML: `AIFI, [cm, heads]`; channels are inferred and kept. They must be divisible by 4 and by the heads.
    `AIFI, [cm, heads, attention=SHSA, mlp=CGLU]` builds an `AttentionEncoderLayer` in its place.
    """

    dynamic: bool = False  # map sizes differ from call to call in one exported graph
    _position: tuple[tuple[object, ...], Tensor] | None = None  # last embedding with what it was made for

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Map (B, D, H, W) to (B, D, H, W), channels last where the input is, else contiguous."""
        b, c, h, w = x.shape
        tokens = contiguous_gradient(x).flatten(2).transpose(1, 2)  # (B, H*W, D)
        tokens = super().forward(tokens, pos=self._positions(w, h, c, x))
        last = x.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        return tokens.transpose(1, 2).reshape(b, c, h, w).contiguous(memory_format=layout)  # (B, D, H, W)

    def _positions(self, w: int, h: int, dim: int, like: Tensor) -> Tensor:
        """Return the embedding of the last map size from memory; when a graph is exported, compute it in the graph.

        A traced graph holds it as a constant unless `dynamic` is set.
        """
        if torch.compiler.is_compiling() or (self.dynamic and is_exporting()):
            return self.build_2d_sincos_position_embedding(w, h, dim, like=like)
        key = (w, h, dim, like.dtype, like.device)
        kept = self._position  # looked at once: other threads may put that of their size there
        if kept is None or kept[0] != key:
            with torch.inference_mode(False):  # an inference tensor could not serve a later training step
                self._position = kept = key, self.build_2d_sincos_position_embedding(w, h, dim, like=like)
        return kept[1]

    @staticmethod
    def build_2d_sincos_position_embedding(
        w: int, h: int, embed_dim: int = 256, temperature: float = 10000.0, like: Tensor | None = None
    ) -> Tensor:
        """Return the fixed sine-cosine embedding (1, H*W, D) of a map, row-major.

        Quarters of the channels: sin and cos of the row, then sin and cos of the column, at D/4 frequencies from 1 to
        1 / temperature. Computed in float32, then given the dtype and device of `like`.

        Raises:
            ValueError: `embed_dim` is not divisible by 4.
        """
        if embed_dim % 4:
            raise ValueError(f"2-D position embedding needs a width divisible by 4, got {embed_dim}")
        device = None if like is None else like.device
        quarter = embed_dim // 4
        omega = temperature ** -(torch.arange(quarter, dtype=torch.float32, device=device) / quarter)
        rows = torch.arange(h, dtype=torch.float32, device=device)[:, None] * omega  # (H, D/4)
        cols = torch.arange(w, dtype=torch.float32, device=device)[:, None] * omega  # (W, D/4)
        rows = torch.cat((rows.sin(), rows.cos()), 1)[:, None].expand(h, w, -1)
        cols = torch.cat((cols.sin(), cols.cos()), 1)[None].expand(h, w, -1)
        out = torch.cat((rows, cols), 2).reshape(1, h * w, embed_dim)  # (1, H*W, D)
        return out if like is None else out.to(like.dtype)


class MSDeformAttn(nn.Module):
    """Multi-scale deformable attention: each head reads P points per level around a reference (arXiv 2010.04159, 4.1).

    Args:
        d_model: Width D.
        n_levels: Feature levels L.
        n_heads: Heads M.
        n_points: Points P per head and level; or the points of each level (D-FINE, arXiv 2410.13842).
        projected: Project the values and the output. Without it a head reads its part of the tokens as they are.
        reading: How a point is read.

    Raises:
        ValueError: D is not divisible by the heads, or `n_points` does not name the points of every level.
    """

    def __init__(
        self,
        d_model: int = 256,
        n_levels: int = 4,
        n_heads: int = 8,
        n_points: int | Sequence[int] = 4,
        projected: bool = True,
        reading: PointReading = INTERPOLATED,
    ) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"MSDeformAttn: width {d_model} is not divisible by {n_heads} heads")
        self.points = [n_points] * n_levels if isinstance(n_points, int) else list(n_points)
        if len(self.points) != n_levels or min(self.points, default=0) < 1:
            raise ValueError(f"MSDeformAttn: points {n_points} must be at least 1 for each of {n_levels} levels")
        self.projected = projected
        self.reading = reading
        self.d_model = d_model
        self.n_levels = n_levels
        self.n_heads = n_heads
        self.n_points = n_points
        self.sampling_offsets = nn.Linear(d_model, n_heads * sum(self.points) * 2)
        self.attention_weights = nn.Linear(d_model, n_heads * sum(self.points))
        self.value_proj: nn.Module = nn.Linear(d_model, d_model) if projected else nn.Identity()
        self.output_proj: nn.Module = nn.Linear(d_model, d_model) if projected else nn.Identity()
        self.reset_parameters()

    def extra_repr(self) -> str:
        """Name the sizes."""
        return f"d_model={self.d_model}, levels={self.n_levels}, heads={self.n_heads}, points={self.n_points}"

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start with equal weights on points that fan out from the reference, one direction for each head."""
        nn.init.zeros_(self.sampling_offsets.weight)
        theta = torch.arange(self.n_heads, dtype=torch.float32) * (2 * math.pi / self.n_heads)
        direction = torch.stack((theta.cos(), theta.sin()), -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        reach = torch.cat([torch.arange(1, count + 1, dtype=torch.float32) for count in self.points])  # (L*P,)
        self.sampling_offsets.bias.copy_((direction[:, None] * reach[:, None]).reshape(-1))  # (M, L*P, 2) flattened
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for proj in (self.value_proj, self.output_proj):
            if isinstance(proj, nn.Linear):
                nn.init.xavier_uniform_(proj.weight)
                nn.init.zeros_(proj.bias)

    def forward(
        self,
        query: Tensor,
        refer_bbox: Tensor,
        value: Tensor,
        value_shapes: LevelShapes,
        value_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend from each query to points around its reference.

        Args:
            query: (B, Q, D).
            refer_bbox: (B, Q, 1, 4) boxes, or (B, Q, 1, 2) points, in 0..1.
            value: (B, N, D), levels one after another.
            value_shapes: (H, W) of each level.
            value_mask: (B, N), True = treated as zero.

        Returns:
            (B, Q, D).

        Raises:
            ValueError: N is not the sum of H*W, or the reference has neither 2 nor 4 numbers.
        """
        if not is_exporting() and sum(h * w for h, w in value_shapes) != value.shape[1]:
            raise ValueError(f"MSDeformAttn: {value.shape[1]} tokens do not fill levels of shape {list(value_shapes)}")
        weights = self.attention_weights(query).unflatten(-1, (self.n_heads, -1)).softmax(-1)  # (B, Q, M, L*P)
        locations = self._locations(self._offsets(query), at_least_float32(refer_bbox), value_shapes)
        if self.reading.discrete:
            locations = self._to_cells(locations.detach(), value_shapes)
        late = value_mask is None and should_project_after_sampling(value, weights)
        if late and isinstance(self.value_proj, nn.Linear):
            sampled = sample_and_project(value, value_shapes, locations, weights, self.value_proj, self.points)
            return self.output_proj(sampled)
        v = self.value_proj(value)
        if value_mask is not None:
            v = v.masked_fill(value_mask[..., None], 0.0)
        v = v.unflatten(-1, (self.n_heads, -1))  # (B, N, M, d)
        return self.output_proj(multi_scale_deformable_attn_pytorch(v, value_shapes, locations, weights, self.points))

    def _offsets(self, query: Tensor) -> Tensor:
        """Return the offsets (B, Q, M, L*P, 2), out of autocast: 8 bits of a bfloat16 cannot place a point in a map.

        The weight of a layer that was quantised is a method; such a layer takes fp32.
        """
        kind = "cpu" if query.is_meta else query.device.type  # autocast knows no meta device
        with torch.autocast(kind, enabled=False):
            weight = self.sampling_offsets.weight
            offsets = self.sampling_offsets(query.to(weight.dtype if isinstance(weight, Tensor) else torch.float32))
        return at_least_float32(offsets).unflatten(-1, (self.n_heads, -1, 2))

    def _to_cells(self, locations: Tensor, shapes: LevelShapes) -> Tensor:
        """Move points (B, Q, M, L*P, 2) to the centres of their cells, where interpolation reads one value."""
        sizes = self._sizes(shapes, locations)
        cells = (locations * sizes + self.reading.rounding).floor()
        return (cells.clamp(min=0).minimum(sizes - 1) + 0.5) / sizes

    def _sizes(self, shapes: LevelShapes, like: Tensor) -> Tensor:
        """Return width and height of the level of each point, (L*P, 2)."""
        each = [[w, h] for count, (h, w) in zip(self.points, shapes, strict=True) for _ in range(count)]
        return torch.as_tensor(each, dtype=like.dtype, device=like.device)

    def _locations(self, offsets: Tensor, reference: Tensor, shapes: LevelShapes) -> Tensor:
        """Place offsets around boxes (in units of half a box over P points) or points (in cells of the level)."""
        if reference.shape[-1] == 4:
            centre, size = reference[..., None, :2], reference[..., None, 2:]  # (B, Q, 1, 1, 2)
            return centre + offsets * (size * self._reach(offsets))
        if reference.shape[-1] != 2:
            raise ValueError(f"MSDeformAttn: a reference has 2 or 4 numbers, got {reference.shape[-1]}")
        return reference[..., None, :] + offsets / self._sizes(shapes, offsets)  # (L*P, 2) broadcast

    def _reach(self, like: Tensor) -> float | Tensor:
        """Return what an offset of 1 means in box sides: half of one over the points of the level, (L*P, 1)."""
        if len(set(self.points)) == 1:
            return 0.5 / self.points[0]
        each = [0.5 / count for count in self.points for _ in range(count)]
        return constant_like(each, like)[:, None]


class DeformableTransformerDecoderLayer(nn.Module):
    """Decoder layer: self-attention among queries, deformable cross-attention to the maps, feed-forward; post-norm.

    Args:
        d_model: Width D.
        n_heads: Heads M, of both attentions.
        d_ffn: Width of the feed-forward part.
        dropout: Dropout probability.
        act: Activation of the feed-forward part; ReLU when None.
        n_levels: Feature levels L.
        n_points: Points P.
        reading: How the maps are read at a point.
    """

    def __init__(
        self,
        d_model: int = 256,
        n_heads: int = 8,
        d_ffn: int = 1024,
        dropout: float = 0.0,
        act: LayerActivation = None,
        n_levels: int = 4,
        n_points: int | Sequence[int] = 4,
        reading: PointReading = INTERPOLATED,
    ) -> None:
        super().__init__()
        self.self_attn = SelfAttention(d_model, n_heads, dropout=dropout)
        self.dropout1 = nn.Dropout(dropout)
        self.norm1 = nn.LayerNorm(d_model)
        self.cross_attn = MSDeformAttn(d_model, n_levels, n_heads, n_points, reading=reading)
        self.dropout2 = nn.Dropout(dropout)
        self.norm2 = nn.LayerNorm(d_model)
        self.linear1 = nn.Linear(d_model, d_ffn)
        self.act = _make_act(act, nn.ReLU)
        self.dropout3 = nn.Dropout(dropout)
        self.linear2 = nn.Linear(d_ffn, d_model)
        self.dropout4 = nn.Dropout(dropout)
        self.norm3 = nn.LayerNorm(d_model)

    def forward(
        self,
        embed: Tensor,
        refer_bbox: Tensor,
        feats: Tensor,
        shapes: LevelShapes,
        padding_mask: Tensor | None = None,
        attn_mask: Tensor | None = None,
        query_pos: Tensor | None = None,
    ) -> Tensor:
        """Return updated queries (B, Q, D).

        Args:
            embed: (B, Q, D) queries.
            refer_bbox: (B, Q, 4) boxes in 0..1 (or (B, Q, 2) points).
            feats: (B, N, D) tokens of all levels.
            shapes: (H, W) of each level.
            padding_mask: (B, N), True = token counts as zero.
            attn_mask: (Q, Q), True = may not attend.
            query_pos: (B, Q, D), added to queries and keys.
        """

        def with_pos(x: Tensor) -> Tensor:
            return x if query_pos is None else x + query_pos

        x = self.norm1(embed + self.dropout1(attend(self.self_attn, with_pos(embed), embed, attn_mask)))
        cross = self.cross_attn(with_pos(x), refer_bbox.unsqueeze(2), feats, shapes, padding_mask)
        x = self.norm2(x + self.dropout2(cross))
        ffn = self.linear2(self.dropout3(self.act(self.linear1(x))))
        return self.norm3(add_clamped(x, self.dropout4(ffn)))


class DeformableTransformerDecoder(nn.Module):
    """Stack of decoder layers with iterative box refinement (Deformable DETR; two-step gradient of DINO, 2203.03605).

    Args:
        hidden_dim: Width D.
        decoder_layer: Prototype; each layer is a deep copy of it.
        num_layers: Number of layers.
        eval_idx: Layer whose output is used in evaluation; counted from the end when negative.
    """

    def __init__(
        self, hidden_dim: int, decoder_layer: DeformableTransformerDecoderLayer, num_layers: int, eval_idx: int = -1
    ) -> None:
        super().__init__()
        self.layers = _get_clones(decoder_layer, num_layers)
        self.num_layers = num_layers
        self.hidden_dim = hidden_dim
        self.eval_idx = eval_idx if eval_idx >= 0 else num_layers + eval_idx

    def forward(
        self,
        embed: Tensor,
        refer_bbox: Tensor,
        feats: Tensor,
        shapes: LevelShapes,
        bbox_head: nn.ModuleList,
        score_head: nn.ModuleList,
        pos_mlp: Callable[[Tensor], Tensor],
        attn_mask: Tensor | None = None,
        padding_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Refine boxes layer by layer.

        Args:
            embed: (B, Q, D) queries.
            refer_bbox: (B, Q, 4) box logits.
            feats: (B, N, D) tokens.
            shapes: (H, W) of each level.
            bbox_head: One module per layer, D -> 4 box-logit steps.
            score_head: One module per layer, D -> nc logits.
            pos_mlp: Maps boxes (B, Q, 4) to position embeddings (B, Q, D).
            attn_mask: (Q, Q), True = may not attend.
            padding_mask: (B, N), True = token counts as zero.

        Returns:
            Boxes (K, B, Q, 4) in 0..1 and score logits (K, B, Q, nc); K = layers in training, else 1.
        """
        boxes: list[Tensor] = []
        scores: list[Tensor] = []
        refer = at_least_float32(refer_bbox).sigmoid()
        previous = None  # box of the layer before, with its gradient
        last = self.num_layers - 1 if self.training else self.eval_idx
        for i, layer in enumerate(self.layers[: last + 1]):
            embed = layer(embed, refer, feats, shapes, padding_mask, attn_mask, pos_mlp(refer.to(embed.dtype)))
            if not self.training and i < last:  # the next layer needs the box alone
                refer = refine_box(bbox_head[i](embed), refer)
                continue
            step = bbox_head[i](embed)
            refined = refine_box(step, refer)
            # in training a box also passes gradient to the layer before it, though the reference itself does not
            boxes.append(refined if previous is None else refine_box(step, previous))
            scores.append(score_head[i](embed))
            previous, refer = refined, refined.detach()
        return torch.stack(boxes), torch.stack(scores)
