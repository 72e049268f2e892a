"""Backbone of DEIMv2 S and M: a tiny vision transformer with a convolutional spatial prior (arXiv 2509.20787).

Shapes: B batch, C channels, H x W map, N tokens, D token width, M heads, d head width, P = h * w
patches of 16 x 16 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.attention import multi_head_attention
from ultralytics.nn.registry import Plan, RowContext, register
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.ops import constant_like
from ultralytics.utils.torch_tools.reproducible import interpolate_bilinear
from ultralytics.utils.torch_utils import fuse_conv_and_bn

__all__ = ("RotaryEmbedding", "SpatialPrior", "TinyViT", "ViTAdapter", "ViTFeatures")

PATCH = 16
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ViTFeatures(NamedTuple):
    """Tokens after one block."""

    patches: Tensor  # (B, P, D)
    cls: Tensor  # (B, D)


class RotaryEmbedding(nn.Module):
    """Rotary positions of patches on two axes (arXiv 2104.09864; axial as in DINOv3).

    Args:
        width: Width d of a head, divisible by 4.
        base: Largest period.
    """

    periods: Tensor

    def __init__(self, width: int, base: float = 100.0) -> None:
        super().__init__()
        if width % 4:
            raise ConfigError(f"rotary positions on two axes need heads of a width divisible by 4, got {width}")
        exponent = 2 * torch.arange(width // 4, dtype=torch.float32) / (width // 2)
        self.register_buffer("periods", base**exponent)

    def forward(self, h: int, w: int) -> tuple[Tensor, Tensor]:
        """Return sine and cosine [h * w, d] of each patch, row-major."""
        kind = self.periods
        rows = 2 * (torch.arange(h, dtype=torch.float32, device=kind.device) + 0.5) / h - 1
        columns = 2 * (torch.arange(w, dtype=torch.float32, device=kind.device) + 0.5) / w - 1
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).flatten(0, 1)  # (P, 2)
        angles = (2 * math.pi * places[..., None] / kind.float()).flatten(1).repeat(1, 2)  # (P, d)
        return angles.sin(), angles.cos()


def rotated(x: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:
    """Return patch tokens (B, M, N, d) turned by their positions; leading tokens beyond those of `sine` stay."""
    extra = x.shape[2] - sine.shape[0]
    first, patches = x[:, :, :extra], x[:, :, extra:]
    a, b = patches.chunk(2, -1)
    turned = patches * cosine.to(x.dtype) + torch.cat((-b, a), -1) * sine.to(x.dtype)
    return torch.cat((first, turned), 2)


class _Attention(nn.Module):
    """Multi-head attention with rotary positions on queries and keys."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:
        """Map (B, N, D) to (B, N, D)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, M, N, d)
        mixed = multi_head_attention(rotated(q, sine, cosine), rotated(k, sine, cosine), v)
        return self.proj(mixed.transpose(1, 2).flatten(2))  # (B, N, D)


class _MLP(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class _Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = _Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = _MLP(dim, 4 * dim)

    def forward(self, x: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:
        """Map (B, N, D) to (B, N, D)."""
        x = x + self.attn(self.norm1(x), sine, cosine)
        return x + self.mlp(self.norm2(x))


class _PatchEmbed(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, PATCH)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class TinyViT(nn.Module):
    """Vision transformer on patches of 16 pixels with a class token and rotary positions.

    Args:
        dim: Width D.
        heads: Attention heads.
        depth: Blocks.
        out: Blocks whose tokens are returned, counted from 0.

    Raises:
        ConfigError: The width does not suit the heads, or `out` names a block that does not exist.
    """

    def __init__(self, dim: int = 192, heads: int = 3, depth: int = 12, out: Sequence[int] = (3, 7, 11)) -> None:
        super().__init__()
        if dim % heads:
            raise ConfigError(f"width {dim} is not divisible by its {heads} heads")
        if not out or not all(0 <= i < depth for i in out):
            raise ConfigError(f"out={list(out)}: name blocks from 0 to {depth - 1}")
        self.out = list(out)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.patch_embed = _PatchEmbed(dim)
        self.blocks = nn.ModuleList(_Block(dim, heads) for _ in range(depth))
        self.rope_embed = RotaryEmbedding(dim // heads)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, x: Tensor) -> list[ViTFeatures]:
        """Return the tokens after each block of `out` for images (B, 3, H, W), sides divisible by 16."""
        maps = self.patch_embed(x)  # (B, D, h, w)
        sine, cosine = self.rope_embed(maps.shape[2], maps.shape[3])
        tokens = torch.cat((self.cls_token.expand(len(x), -1, -1), maps.flatten(2).transpose(1, 2)), 1)
        found = []
        for i, block in enumerate(self.blocks[: max(self.out) + 1]):
            tokens = block(tokens, sine, cosine)  # (B, 1 + P, D)
            if i in self.out:
                found.append(ViTFeatures(tokens[:, 1:], tokens[:, 0]))
        return found


class SpatialPrior(nn.Module):
    """Convolutional details at strides 8, 16 and 32 beside a vision transformer.

    Args:
        c: Channels of the stem; the maps have 2c, 4c and 4c.
    """

    def __init__(self, c: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_strided(3, c), nn.GELU(), nn.MaxPool2d(3, 2, 1))
        self.conv2 = nn.Sequential(*_strided(c, 2 * c))
        self.conv3 = nn.Sequential(nn.GELU(), *_strided(2 * c, 4 * c))
        self.conv4 = nn.Sequential(nn.GELU(), *_strided(4 * c, 4 * c))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> (B, 2c, H/8, W/8), (B, 4c, H/16, W/16), (B, 4c, H/32, W/32)."""
        fine = self.conv2(self.stem(x))
        middle = self.conv3(fine)
        return [fine, middle, self.conv4(middle)]


def _strided(c1: int, c2: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(c1, c2, 3, 2, 1, bias=False), nn.BatchNorm2d(c2)


def _adapter_rule(row: RowContext) -> Plan:
    """`[dim, heads, depth, out, c, hidden, normalize]` as they are; the outputs are picked by `Index` rows."""
    if row.c1 != 3:
        raise ValueError(f"the vision transformer takes images of 3 channels, not {row.c1}")
    hidden = row.args[5] if len(row.args) > 5 and row.args[5] is not None else row.args[0]
    return Plan(row.args, hidden)


@register(_adapter_rule, row="dim, heads, depth, out, c, hidden, normalize")
class ViTAdapter(nn.Module):
    """Vision transformer with a spatial prior: maps at strides 8, 16 and 32, each of `hidden` channels.

    YAML: `ViTAdapter, [dim, heads, depth, out, c, hidden, normalize]`, then one `Index, [hidden, i]` for each map.

    Args:
        dim: Width of the transformer.
        heads: Attention heads.
        depth: Blocks.
        out: Blocks that feed the maps, one for each or one for all.
        c: Channels of the prior's stem.
        hidden: Channels of the maps; `dim` when None.
        normalize: Bring images in 0..1 to the mean and deviation of ImageNet first, as published weights expect.

    Raises:
        ConfigError: `out` names neither one block nor three.
    """

    def __init__(
        self,
        dim: int = 192,
        heads: int = 3,
        depth: int = 12,
        out: Sequence[int] = (3, 7, 11),
        c: int = 16,
        hidden: int | None = None,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        if len(out) not in (1, 3):
            raise ConfigError(f"out={list(out)}: name three blocks, one for each map, or one for all")
        hidden = dim if hidden is None else hidden
        self.normalize = normalize
        self.vit = TinyViT(dim, heads, depth, out)
        self.sta = SpatialPrior(c)
        self.convs = nn.ModuleList(nn.Conv2d(dim + k * c, hidden, 1, bias=False) for k in (2, 4, 4))
        self.norms = nn.ModuleList(nn.BatchNorm2d(hidden) for _ in range(3))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> (B, hidden, H/8, W/8), (B, hidden, H/16, W/16), (B, hidden, H/32, W/32)."""
        if self.normalize:
            x = (x - constant_like(_MEAN, x).view(3, 1, 1)) / constant_like(_STD, x).view(3, 1, 1)
        tokens = [features.patches for features in self.vit(x)]
        tokens = tokens if len(tokens) > 1 else tokens * 3
        h, w = x.shape[2] // PATCH, x.shape[3] // PATCH
        found = []
        for i, (layer, detail) in enumerate(zip(tokens, self.sta(x), strict=True)):
            level = layer.transpose(1, 2).unflatten(2, (h, w))  # (B, D, h, w)
            if level.shape[2:] != detail.shape[2:]:
                level = interpolate_bilinear(level, detail.shape[2:])
            conv, norm = self.convs[i], self.norms[i]
            found.append(norm(conv(torch.cat((level, detail), 1))))
        return found

    def fuse(self) -> ViTAdapter:
        """Fold the BatchNorms, in place; outputs in evaluation stay the same."""
        for i, norm in enumerate(self.norms):
            if isinstance(norm, nn.BatchNorm2d):
                self.convs[i] = fuse_conv_and_bn(cast("nn.Conv2d", self.convs[i]), norm)
                self.norms[i] = nn.Identity()
        for part in (self.sta.stem, self.sta.conv2, self.sta.conv3, self.sta.conv4):
            for k, layer in enumerate(part):
                if isinstance(layer, nn.BatchNorm2d):
                    part[k - 1] = fuse_conv_and_bn(cast("nn.Conv2d", part[k - 1]), layer)
                    part[k] = nn.Identity()
        return self
