"""SHSA, single-head self-attention on a part of the channels, and SHViT, the backbone that it comes from.

Source: "SHViT: Single-Head Vision Transformer with Memory Efficient Macro Design" (CVPR 2024, arXiv 2401.16456).
State-dict keys are those of the official weights. Each ReLU overwrites what it is given: the output of a convolution,
batch norm or concatenation, which nothing else reads. Shapes: B batch, C channels, H x W map,
N = H*W tokens, P attending channels (`pdim`), K query/key width (`qk_dim`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import stochastic_depth

from ultralytics.nn.modules.attention import single_head_attention
from ultralytics.nn.modules.conv import fuse_children, zero_norms
from ultralytics.nn.modules.utils import contiguous_gradient
from ultralytics.nn.registry import Plan, RowContext, channels_first, register, scaled_conv
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_utils import bn_affine, fuse_conv_and_bn, wants_channels_last


# ------------------------------------------------------------------------------------- convolution, linear, residual
class Conv2d_BN(nn.Module):
    """Convolution without bias, then batch norm; `bn_weight_init` 0 makes a residual branch start at zero."""

    def __init__(
        self,
        a: int,
        b: int,
        ks: int = 1,
        stride: int = 1,
        pad: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bn_weight_init: float = 1,
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(a, b, ks, stride, pad, dilation, groups, bias=False)
        self.bn = nn.BatchNorm2d(b)
        nn.init.constant_(self.bn.weight, bn_weight_init)

    def forward(self, x: Tensor) -> Tensor:
        """(B, a, H, W) -> (B, b, H', W')."""
        return self.bn(self.c(x))

    def fuse(self) -> nn.Conv2d:
        """Return one convolution with bias that gives the same in eval mode."""
        return fuse_conv_and_bn(self.c, self.bn)


class BN_Linear(nn.Module):
    """Batch norm over features, then a linear layer (truncated normal weights)."""

    def __init__(self, a: int, b: int, bias: bool = True, std: float = 0.02) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(a)
        self.l = nn.Linear(a, b, bias=bias)
        nn.init.trunc_normal_(self.l.weight, std=std)
        if bias:
            nn.init.zeros_(self.l.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, a) -> (B, b)."""
        return self.l(self.bn(x))

    @torch.no_grad()
    def fuse(self) -> nn.Linear:
        """Return one linear layer, with bias, that gives the same in eval mode."""
        scale, shift = bn_affine(self.bn)
        fused = nn.Linear(self.l.in_features, self.l.out_features).to(self.l.weight)
        fused.weight.copy_(self.l.weight * scale)
        fused.bias.copy_(self.l.weight @ shift + (0 if self.l.bias is None else self.l.bias))
        return fused.requires_grad_(False)


class Residual(nn.Module):
    """x + m(x); in training m is dropped for a fraction `drop` of the samples (stochastic depth)."""

    def __init__(self, m: nn.Module, drop: float = 0.0) -> None:
        super().__init__()
        self.m = m
        self.drop = drop
        self.in_place = False

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        y = self.m(x)
        if self.training and self.drop > 0:
            y = stochastic_depth(y, self.drop, "row")
        return y.add_(x) if self.in_place and y.dtype is x.dtype else x + y

    @torch.no_grad()
    def fuse(self) -> nn.Module:
        """Return the branch with the identity added to its kernel where it is a depth-wise 3x3, else this block.

        The block then adds in the memory of a branch that is known to return a new tensor.
        """
        self.in_place = isinstance(self.m, (FFN, SHSA))
        if not (isinstance(self.m, Conv2d_BN) and self.m.c.kernel_size == (3, 3)):
            return self
        if not self.m.c.groups == self.m.c.in_channels == self.m.c.out_channels:
            return self
        conv = self.m.fuse()
        conv.weight[:, :, 1, 1] += 1  # (C, 1, 3, 3): a kernel with a one in the middle copies its input
        return conv


class FFN(nn.Module):
    """1x1 to `h` channels, activation (ReLU), 1x1 back; the second batch norm starts at zero."""

    def __init__(self, ed: int, h: int, act: Callable[..., nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.pw1 = Conv2d_BN(ed, h)
        self.act = act(inplace=True)
        self.pw2 = Conv2d_BN(h, ed, bn_weight_init=0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ed, H, W) -> the same shape."""
        return self.pw2(self.act(self.pw1(x)))


class SqueezeExcite(nn.Module):
    """Scale channels by a gate of two 1x1 convolutions on the map's mean (arXiv 1709.01507).

    The inner width is channels * ratio to the nearest multiple of 8, at least 8.
    """

    def __init__(self, channels: int, ratio: float = 0.25) -> None:
        super().__init__()
        inner = max(8, int(channels * ratio + 4) // 8 * 8)
        self.fc1 = nn.Conv2d(channels, inner, 1)
        self.act = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x * self.fc2(self.act(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()


@register(scaled_conv)
class PatchMerging(nn.Module):
    """Halve the map: 1x1 to 4*dim, depth-wise 3x3 of stride 2, squeeze-excitation, 1x1 to `out_dim`."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        hidden = dim * 4
        self.conv1 = Conv2d_BN(dim, hidden)
        self.act = nn.ReLU(inplace=True)
        self.conv2 = Conv2d_BN(hidden, hidden, 3, 2, 1, groups=hidden)
        self.se = SqueezeExcite(hidden, 0.25)
        self.conv3 = Conv2d_BN(hidden, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> (B, out_dim, ceil(H/2), ceil(W/2))."""
        return self.conv3(self.se(self.act(self.conv2(self.act(self.conv1(x))))))


# ------------------------------------------------------------------------------------------------------------- SHSA
def _shsa_rule(row: RowContext) -> Plan:
    """`[]`, `[qk_dim]`, `[qk_dim, pdim]` or `[qk_dim, pdim, residual]`; in a YAML the residual is on unless refused."""
    defaults = (16, None, True)
    return Plan((row.c1, *row.args, *defaults[len(row.args) :]), row.c1)


@register(_shsa_rule, row="qk_dim, pdim, residual: bool = True")
class SHSA(nn.Module):
    """Single-head self-attention: the first `pdim` channels attend over all places, the others pass by (sec. 3.2).

    The last batch norm starts at zero: a new block gives zeros, and with the residual its input.
    `pdim` None is 3/14 of `dim`, to a multiple of 8. ConfigError when `pdim` exceeds `dim`.
    """

    def __init__(self, dim: int, qk_dim: int = 16, pdim: int | None = None, residual: bool = False) -> None:
        super().__init__()
        pdim = min(dim, max(8, int(dim * 3 / 14 / 8 + 0.5) * 8)) if pdim is None else pdim
        if qk_dim < 1 or not 1 <= pdim <= dim:
            raise ConfigError(f"SHSA on {dim} channels needs 1 <= pdim <= {dim} and qk_dim >= 1; got {pdim}, {qk_dim}")
        self.dim, self.qk_dim, self.pdim, self.residual = dim, qk_dim, pdim, residual
        self.pre_norm = nn.GroupNorm(1, pdim)
        self.qkv = Conv2d_BN(pdim, 2 * qk_dim + pdim)
        self.proj = nn.Sequential(nn.ReLU(inplace=True), Conv2d_BN(dim, dim, bn_weight_init=0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> the same shape."""
        x1, x2 = x.split([self.pdim, self.dim - self.pdim], dim=1)
        qkv = contiguous_gradient(self.qkv(self.pre_norm(x1)))
        tokens = qkv.flatten(2).transpose(1, 2)  # (B, N, 2K + P)
        q, k, v = tokens.split([self.qk_dim, self.qk_dim, self.pdim], dim=2)
        x1 = single_head_attention(q, k, v, self.qk_dim**-0.5).transpose(1, 2).reshape(x1.shape)  # (B, P, H, W)
        y = self.proj(torch.cat((x1, x2), 1))
        return x + y if self.residual else y

    def fuse(self) -> nn.Module:
        """Fold both batch norms, in place."""
        return fuse_children(self)

    def start_as_identity(self) -> bool:
        """With the residual, set the last batch norm to zero, so that the block passes its input on; say whether."""
        if self.residual:
            zero_norms(self.proj[1])
        return self.residual

    def extra_repr(self) -> str:
        """Say what the children do not show."""
        return f"dim={self.dim}, qk_dim={self.qk_dim}, pdim={self.pdim}, residual={self.residual}"


@register(channels_first)
class BasicBlock(nn.Module):
    """Depth-wise 3x3, SHSA (type "s") or nothing ("i"), FFN; each a residual branch that starts at zero."""

    def __init__(self, dim: int, qk_dim: int = 16, pdim: int | None = None, type: str = "s") -> None:
        super().__init__()
        if type not in ("s", "i"):
            raise ConfigError(f"BasicBlock type must be 's' (SHSA) or 'i' (no mixer); got {type!r}")
        self.conv = Residual(Conv2d_BN(dim, dim, 3, 1, 1, groups=dim, bn_weight_init=0))
        self.mixer = Residual(SHSA(dim, qk_dim, pdim)) if type == "s" else nn.Identity()
        self.ffn = Residual(FFN(dim, dim * 2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) -> the same shape."""
        return self.ffn(self.mixer(self.conv(x)))

    def start_as_identity(self) -> bool:
        """Set the last batch norm of each residual branch to zero; the block then passes its input on."""
        zero_norms(self.conv, self.ffn.m.pw2)
        if isinstance(self.mixer, Residual):
            zero_norms(self.mixer.m.proj)
        return True


# ------------------------------------------------------------------------------------------------------------ SHViT
def _patch_embed(c1: int, widths: Sequence[int]) -> list[nn.Module]:
    """Return 3x3 convolutions of stride 2 to each width, with ReLU between them."""
    layers: list[nn.Module] = []
    for a, b in zip((c1, *widths), widths, strict=False):
        layers += [Conv2d_BN(a, b, 3, 2, 1), nn.ReLU(inplace=True)]
    return layers[:-1]


def _subsample(dim: int, out_dim: int) -> list[nn.Module]:
    """Return the three modules between two stages: local mixing, PatchMerging, local mixing."""

    def local(c: int) -> nn.Module:
        return nn.Sequential(Residual(Conv2d_BN(c, c, 3, 1, 1, groups=c)), Residual(FFN(c, c * 2)))

    return [local(dim), PatchMerging(dim, out_dim), local(out_dim)]


class SHViT(nn.Module):
    """The whole classification network: stem of stride 16, three stages of strides 16, 32, 64, pooled linear head.

    `embed_dim`, `partial_dim`, `qk_dim`, `depth` and `types` have one entry per stage; `down_ops[i]` is
    `("subsample", 2)` to halve the map after stage i, or `("",)`. With `distillation` a second head follows a teacher:
    in training the result is the pair (head, distillation head), in eval their mean. `num_classes` 0 gives features.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: Sequence[int] = (128, 256, 384),
        partial_dim: Sequence[int] = (32, 64, 96),
        qk_dim: Sequence[int] = (16, 16, 16),
        depth: Sequence[int] = (1, 2, 3),
        types: Sequence[str] = ("s", "s", "s"),
        down_ops: Sequence[Sequence[Any]] = (("subsample", 2), ("subsample", 2), ("",)),
        distillation: bool = False,
    ) -> None:
        super().__init__()
        self.distillation = distillation
        first = embed_dim[0]
        self.patch_embed = nn.Sequential(*_patch_embed(in_chans, (first // 8, first // 4, first // 2, first)))
        stages: list[list[nn.Module]] = [[], [], []]
        for i, (dim, width, part, n, kind) in enumerate(zip(embed_dim, qk_dim, partial_dim, depth, types, strict=True)):
            stages[i] += [BasicBlock(dim, width, part, kind) for _ in range(n)]
            if down_ops[i][0] == "subsample":
                stages[i + 1] += _subsample(dim, embed_dim[i + 1])
        self.blocks1, self.blocks2, self.blocks3 = (nn.Sequential(*blocks) for blocks in stages)
        self.head = self._head(embed_dim[-1], num_classes)
        if distillation:
            self.head_dist = self._head(embed_dim[-1], num_classes)

    @staticmethod
    def _head(dim: int, num_classes: int) -> nn.Module:
        return BN_Linear(dim, num_classes) if num_classes > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Images (B, in_chans, H, W) -> logits (B, num_classes), or a pair of them."""
        x = self.blocks3(self.blocks2(self.blocks1(self.patch_embed(x))))
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (B, C)
        if not self.distillation:
            return self.head(x)
        y, y_dist = self.head(x), self.head_dist(x)
        return (y, y_dist) if self.training else (y + y_dist) / 2

    def fuse(self) -> nn.Module:
        """Fold every batch norm and depth-wise residual, in place; on a CPU the kernels then lie channels-last."""
        net = fuse_children(self)
        last = wants_channels_last(None, next(net.parameters()).device)
        return net.to(memory_format=torch.channels_last) if last else net


def _official(widths: Sequence[int], parts: Sequence[int], depth: Sequence[int], kwargs: dict[str, Any]) -> SHViT:
    return SHViT(embed_dim=widths, partial_dim=parts, depth=depth, types=("i", "s", "s"), **kwargs)


def shvit_s1(**kwargs: Any) -> SHViT:
    """SHViT-S1: 6.3 M parameters; keywords as for `SHViT` (num_classes, in_chans, distillation)."""
    return _official((128, 224, 320), (32, 48, 68), (2, 4, 5), kwargs)


def shvit_s2(**kwargs: Any) -> SHViT:
    """SHViT-S2: 11.5 M parameters; keywords as for `SHViT`."""
    return _official((128, 308, 448), (32, 66, 96), (2, 4, 5), kwargs)


def shvit_s3(**kwargs: Any) -> SHViT:
    """SHViT-S3: 14.2 M parameters; keywords as for `SHViT`."""
    return _official((192, 352, 448), (48, 75, 96), (3, 5, 5), kwargs)


def shvit_s4(**kwargs: Any) -> SHViT:
    """SHViT-S4: 16.6 M parameters, made for 256 px; keywords as for `SHViT`."""
    return _official((224, 336, 448), (48, 72, 96), (4, 7, 6), kwargs)


# ---------------------------------------------------------------------- SHViT in rows of a YAML: backbone, classifier
@register(lambda row: Plan((row.c1, *row.args), row.args[0]), row="c2")
class SHViTStem(nn.Module):
    """The first three convolutions of SHViT's stem: stride 8. YAML `[c2]`, the width there (half of stage 1's).

    `c2` is a width of the official network and is not scaled.
    """

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_patch_embed(c1, (c2 // 4, c2 // 2, c2)), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H/8, W/8)."""
        return self.layers(x)


@register(
    lambda row: Plan((row.c1, row.args[0], row.repeats, *row.args[1:]), row.args[0], repeats_inside=True),
    row="c2, pdim, type, qk_dim",
)
class SHViTStage(nn.Module):
    """One stage of SHViT after the step that halves the map. YAML `[c2, pdim, type, qk_dim]`, repeats = depth.

    The step is the stem's last convolution in front of type "i" (stage 1), the subsample step in front of type "s".
    `c2` is a width of the official network and is not scaled.
    """

    def __init__(self, c1: int, c2: int, n: int, pdim: int, type: str = "s", qk_dim: int = 16) -> None:
        super().__init__()
        self.down = nn.Sequential(*([Conv2d_BN(c1, c2, 3, 2, 1)] if type == "i" else _subsample(c1, c2)))
        self.blocks = nn.Sequential(*(BasicBlock(c2, qk_dim, pdim, type) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, ceil(H/2), ceil(W/2))."""
        return self.blocks(self.down(x))


@register(lambda row: Plan((row.c1, *row.args), row.args[0]), row="nc, distillation, dropout")
class SHViTHead(nn.Module):
    """Pool the map and classify. YAML `[nc]` or `[nc, distillation]`.

    With `distillation` a second head follows a teacher: in training the result is the pair (head, distillation head),
    in eval their mean. `dropout` acts on the pooled features in training.
    """

    def __init__(self, c1: int, nc: int, distillation: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.distillation = distillation
        self.drop = nn.Dropout(dropout)
        self.head = BN_Linear(c1, nc)
        if distillation:
            self.head_dist = BN_Linear(c1, nc)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(B, c1, H, W) -> logits (B, nc), or in training with `distillation` a pair of them."""
        x = self.drop(F.adaptive_avg_pool2d(x, 1).flatten(1))  # (B, c1)
        if not self.distillation:
            return self.head(x)
        y, y_dist = self.head(x), self.head_dist(x)
        return (y, y_dist) if self.training else (y + y_dist) / 2
