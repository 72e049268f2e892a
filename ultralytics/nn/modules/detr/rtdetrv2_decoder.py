"""Detection head of RT-DETRv2 (arXiv 2407.17140): RT-DETR's with points per level and a padding class.

Shapes: B batch, N tokens of all levels, D hidden width, Q queries. Boxes are cx, cy, w, h in 0..1 of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from ultralytics.models.utils.denoising import DenoisingForm
from ultralytics.nn.modules.detr.projections import LevelProjections
from ultralytics.nn.modules.head import RTDETRDecoder
from ultralytics.nn.modules.query_head import Anchors, head_rule
from ultralytics.nn.modules.transformer import MLP, MSDeformAttn
from ultralytics.nn.registry import register
from ultralytics.utils.errors import ConfigError

__all__ = ("RTDETRDecoderv2",)


@register(head_rule, multi_input=True, is_head=True)
class RTDETRDecoderv2(RTDETRDecoder):
    """RT-DETRv2 head. YAML: `RTDETRDecoderv2, [nc, hd, nq, points, nh, ndl, d_ffn]`, finest level first.

    Arguments as those of `RTDETRDecoder`, but:

    Args:
        points: Sampling points of each level; more levels than inputs are made by strided convolutions.
        act: Activation of the feed-forward parts and MLPs: ReLU when None; DEIM has SiLU.
        discrete: Deformable attention reads the nearest cell; offsets are then not trained.
        select: See `DFINEDecoder`.
        as_reg: The query position comes from three layers of width D (DEIM-RT-DETRv2), not from two.
    """

    denoising = DenoisingForm(padded=True, capped=False, dummy=True)
    rounding = 0.5

    def __init__(
        self,
        nc: int = 80,
        ch: Sequence[int] = (256, 256, 256),
        hd: int = 256,
        nq: int = 300,
        points: Sequence[int] = (4, 4, 4),
        nh: int = 8,
        ndl: int = 6,
        d_ffn: int = 1024,
        act: type[nn.Module] | None = None,
        eval_idx: int = -1,
        nd: int = 100,
        label_noise_ratio: float = 0.5,
        learnt_init_query: bool = False,
        discrete: bool = False,
        select: str = "default",
        as_reg: bool = False,
    ) -> None:
        self.check_select(select)
        if len(points) < len(ch):
            raise ConfigError(f"points={list(points)}: name the sampling points of all {len(ch)} levels")
        levels = [*ch, *[hd] * (len(points) - len(ch))]
        super().__init__(
            nc, levels, hd, nq, list(points), nh, ndl, d_ffn, 0.0, act, eval_idx, nd, label_noise_ratio, 1.0,
            learnt_init_query, discrete,
        )  # fmt: skip
        self.select = select
        self.input_proj = LevelProjections(ch, hd, len(points))
        self.denoising_class_embed = nn.Embedding(nc + 1, hd)
        self.query_pos_head = MLP(4, hd, hd, 3, act) if as_reg else MLP(4, 2 * hd, hd, 2, act)
        if select == "agnostic":
            self.enc_score_head = nn.Linear(hd, 1)
        self.enc_bbox_head = MLP(hd, hd, 4, 3, act)
        self.dec_bbox_head = nn.ModuleList(MLP(hd, hd, 4, 3, act) for _ in range(ndl))
        for module in self.decoder.modules():
            if isinstance(module, MSDeformAttn):
                module.sampling_offsets.requires_grad_(not discrete)
        self.reset_parameters()

    def fuse(self) -> RTDETRDecoderv2:
        """Fold the BatchNorms of the input projections, in place; outputs in evaluation stay the same."""
        cast("LevelProjections", self.input_proj).fuse()
        return self

    def _get_encoder_input(self, x: Sequence[Tensor]) -> tuple[Tensor, list[list[int]]]:
        return cast("LevelProjections", self.input_proj)(x)

    def selected(self, scores: Tensor, anchors: Anchors, queries: int, select: str = "default") -> Tensor:
        """Select as the argument `select` of the head says."""
        return super().selected(scores, anchors, queries, self.select)
