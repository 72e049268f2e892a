"""Aggregation blocks: MANet and HyperComputeModule of Hyper-YOLO (TPAMI 2025, arXiv 2408.04804), RGCSPELAN.

Shapes: B batch, C channels, H x W map, N = H*W tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.conv import Conv, RepConv
from ultralytics.nn.modules.csp import Bottleneck
from ultralytics.nn.modules.utils import at_least_float32
from ultralytics.nn.registry import Plan, RowContext, register, scaled_repeat
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.torch_utils import fuse_conv_and_bn


@register(scaled_repeat)
class MANet(nn.Module):
    """Mixed aggregation: a 1x1, a depth-wise branch and C2f's chain of bottlenecks, joined (Hyper-YOLO, sec. 4.2).

    `p` widens the depth-wise branch, `kernel_size` is its kernel; `g` groups the bottlenecks' second convolution.
    YAML `[c2, shortcut, p, kernel_size, g, e]`.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        shortcut: bool = False,
        p: int = 1,
        kernel_size: int = 3,
        g: int = 1,
        e: float = 0.5,
    ) -> None:
        super().__init__()
        self.c = int(c2 * e)
        wide = int(2 * self.c * p)
        self.cv_first = Conv(c1, 2 * self.c, 1)
        self.cv_final = Conv((4 + n) * self.c, c2, 1)
        self.m = nn.ModuleList(Bottleneck(self.c, self.c, shortcut, g, (3, 3), 1.0) for _ in range(n))
        self.cv_block_1 = Conv(2 * self.c, self.c, 1)
        depthwise = Conv(wide, wide, kernel_size, g=wide)
        self.cv_block_2 = nn.Sequential(Conv(2 * self.c, wide, 1), depthwise, Conv(wide, self.c, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        x = self.cv_first(x)
        y = [self.cv_block_1(x), self.cv_block_2(x), *x.chunk(2, 1)]
        for m in self.m:
            y.append(m(y[-1]))
        return self.cv_final(torch.cat(y, 1))


class _HypergraphConv(nn.Module):
    """Tokens -> hyperedges -> tokens, each step a mean; an edge joins all tokens within a distance of one token."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.fc = nn.Linear(c, c)

    def forward(self, x: Tensor, threshold: float) -> Tensor:
        """(B, N, C) -> the same shape."""
        with torch.no_grad():
            tokens = at_least_float32(x)
            # not by a matrix product, which would give a token a distance from itself
            distance = torch.cdist(tokens, tokens, compute_mode="donot_use_mm_for_euclid_dist")  # (B, N, N)
            near = (distance < threshold).to(tokens.dtype)
            mean = (near / near.sum(2, keepdim=True)).to(x.dtype)
        edges = mean @ self.fc(x)  # (B, N, C)
        return mean @ edges


def _hyper_rule(row: RowContext) -> Plan:
    """`[c2, threshold]` -> (c1, c2 scaled, threshold); the threshold has no default."""
    if len(row.args) < 2:
        raise ValueError("the distance threshold is missing: [c2, threshold]; Hyper-YOLO uses 6 (n) to 10 (l)")
    c2 = row.scaled(row.args[0])
    return Plan((row.c1, c2, *row.args[1:]), c2)


@register(_hyper_rule, row="c2, threshold")
class HyperComputeModule(nn.Module):
    """SiLU(BN(x + hypergraph convolution of x)): tokens that are near in feature space share (Hyper-YOLO, sec. 4.3).

    It holds an N x N map for each image: meant for the coarsest level. The channels stay. YAML `[c2, threshold]`.
    """

    def __init__(self, c1: int, c2: int, threshold: float) -> None:
        super().__init__()
        if c1 != c2:
            raise ConfigError(f"HyperComputeModule keeps its channels: {c1} come in, the row asks for {c2}; write {c1}")
        if threshold <= 0:
            raise ConfigError(f"HyperComputeModule: threshold={threshold}; it must be above 0, as 6 (n) to 10 (l)")
        self.threshold = threshold
        self.hgconv = _HypergraphConv(c1)
        self.bn: nn.Module = nn.BatchNorm2d(c1)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        tokens = x.flatten(2).transpose(1, 2)  # (B, N, C)
        shared = self.hgconv(tokens, self.threshold).transpose(1, 2).reshape(x.shape)
        return self.act(self.bn(x + shared))

    @torch.no_grad()
    def fuse(self) -> nn.Module:
        """Turn the batch norm, before which there is a sum, into a depth-wise 1x1 convolution, in place."""
        if isinstance(self.bn, nn.BatchNorm2d):
            c = self.bn.num_features
            same = nn.Conv2d(c, c, 1, groups=c, bias=False).to(self.hgconv.fc.weight)
            nn.init.ones_(same.weight)
            self.bn = fuse_conv_and_bn(same, self.bn)
        return self


@register(scaled_repeat)
class RGCSPELAN(nn.Module):
    """Cross-stage ELAN of GhostNet-like width: a RepConv narrows one half, a chain of 3x3 and a 1x1 follow.

    Forks' own block, without a paper. All steps are joined with the other half. `scale` narrows the chain to
    c2 * e * scale channels. YAML `[c2, scale, e]`.
    """

    def __init__(self, c1: int, c2: int, n: int = 1, scale: float = 0.5, e: float = 0.5) -> None:
        super().__init__()
        self.c = int(c2 * e)
        mid = int(self.c * scale)
        if mid < 1:
            raise ConfigError(f"RGCSPELAN: c2={c2}, e={e}, scale={scale} leave no channel inside; use larger values")
        self.cv1 = Conv(c1, 2 * self.c, 1)
        self.cv2 = Conv(self.c + mid * (n + 1), c2, 1)
        self.cv3 = RepConv(self.c, mid)
        self.m = nn.ModuleList(Conv(mid, mid, 3) for _ in range(n - 1))
        self.cv4 = Conv(mid, mid, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        a, b = self.cv1(x).chunk(2, 1)
        y = [a, self.cv3(b)]
        for m in self.m:
            y.append(m(y[-1]))
        return self.cv2(torch.cat([*y, self.cv4(y[-1])], 1))
