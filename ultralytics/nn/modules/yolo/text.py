"""Parts of open-vocabulary detectors that read text embeddings beside the image (YOLO-World, arXiv 2401.17270, 3.3).

Shapes: B batch, C channels, H x W map, N texts, G width of an embedded string, M heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.attention import multi_head_attention
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.csp import C2f
from ultralytics.utils.errors import ConfigError


class MaxSigmoidAttnBlock(nn.Module):
    """Scale each place of a map by its best match among the texts, head by head.

    `nh` heads, `ec` width of the comparison, `gc` of the texts; `scale` learns a factor of each head.
    """

    def __init__(self, c1: int, c2: int, nh: int = 1, ec: int = 128, gc: int = 512, scale: bool = False) -> None:
        super().__init__()
        if nh < 1 or c2 % nh or ec % nh:
            raise ConfigError(f"MaxSigmoidAttnBlock: widths {c2} and {ec} are not divisible by its {nh} heads")
        self.nh, self.hc = nh, ec // nh
        self.ec = Conv(c1, ec, act=False) if c1 != ec else None
        self.gl = nn.Linear(gc, ec)
        self.bias = nn.Parameter(torch.zeros(nh))
        self.proj_conv = Conv(c1, c2, 3, 1, act=False)
        self.scale: Tensor | float = nn.Parameter(torch.ones(1, nh, 1, 1)) if scale else 1.0

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """Map (B, c1, H, W) and texts (B, N, G) -> (B, c2, H, W)."""
        places = (x if self.ec is None else self.ec(x)).unflatten(1, (self.nh, self.hc))  # (B, M, d, H, W)
        texts = self.gl(guide).unflatten(-1, (self.nh, self.hc))  # (B, N, M, d)
        best = torch.einsum("bmdhw,bnmd->bmnhw", places, texts).amax(2)  # (B, M, H, W)
        gate = (best / math.sqrt(self.hc) + self.bias.view(-1, 1, 1)).sigmoid() * self.scale
        return (self.proj_conv(x).unflatten(1, (self.nh, -1)) * gate.unsqueeze(2)).flatten(1, 2)


class C2fAttn(C2f):
    """C2f with one more branch: the last bottleneck's output, gated by texts."""

    def __init__(
        self, c1: int, c2: int, n: int = 1, ec: int = 128, nh: int = 1, gc: int = 512, shortcut: bool = False
    ) -> None:
        super().__init__(c1, c2, n, shortcut)
        self.cv2 = Conv((3 + n) * self.c, c2, 1)
        self.attn = MaxSigmoidAttnBlock(self.c, self.c, nh, ec, gc)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:  # type: ignore[override]
        """Map (B, c1, H, W) and texts (B, N, G) -> (B, c2, H, W)."""
        y = list(self.cv1(x).chunk(2, 1))
        for m in self.m:
            y.append(m(y[-1]))
        y.append(self.attn(y[-1], guide))
        return self.cv2(torch.cat(y, 1))


class ImagePoolingAttn(nn.Module):
    """Let texts look at the image: attention of each text over k x k pooled places of every level, added to it."""

    def __init__(
        self, ec: int = 256, ch: Sequence[int] = (), ct: int = 512, nh: int = 8, k: int = 3, scale: bool = False
    ) -> None:
        super().__init__()
        self.query = nn.Sequential(nn.LayerNorm(ct), nn.Linear(ct, ec))
        self.key = nn.Sequential(nn.LayerNorm(ec), nn.Linear(ec, ec))
        self.value = nn.Sequential(nn.LayerNorm(ec), nn.Linear(ec, ec))
        self.proj = nn.Linear(ec, ct)
        self.scale: Tensor | float = nn.Parameter(torch.zeros(1)) if scale else 1.0
        self.projections = nn.ModuleList(nn.Conv2d(c, ec, 1) for c in ch)
        self.nh, self.k = nh, k

    def forward(self, x: Sequence[Tensor], text: Tensor) -> Tensor:
        """Maps [(B, C_i, H_i, W_i), ...] and texts (B, N, G) -> texts (B, N, G)."""
        pairs = zip(self.projections, x, strict=True)
        tokens = torch.cat([F.adaptive_max_pool2d(p(m), self.k).flatten(2) for p, m in pairs], 2).transpose(1, 2)
        sources = (self.query(text), self.key(tokens), self.value(tokens))
        q, k, v = (t.unflatten(-1, (self.nh, -1)).transpose(1, 2) for t in sources)  # (B, M, tokens, d)
        seen = multi_head_attention(q, k, v).transpose(1, 2).flatten(2)  # (B, N, ec)
        return self.proj(seen) * self.scale + text


class ContrastiveHead(nn.Module):
    """Class logits as cosine of a cell and an embedded string, with a learnt scale and bias."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([-10.0]))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map (B, C, H, W) and texts (B, N, C) -> logits (B, N, H, W)."""
        return self._logits(F.normalize(x, dim=1), w)

    def _logits(self, x: Tensor, w: Tensor) -> Tensor:
        match = torch.einsum("bchw,bnc->bnhw", x, F.normalize(w, dim=-1))
        return match * self.logit_scale.exp() + self.bias


class BNContrastiveHead(ContrastiveHead):
    """ContrastiveHead with a batch norm of the map in place of its normalisation."""

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(embed_dims)
        nn.init.constant_(self.logit_scale, -1.0)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map (B, C, H, W) and texts (B, N, C) -> logits (B, N, H, W)."""
        return self._logits(self.norm(x), w)
