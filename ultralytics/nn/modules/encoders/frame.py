"""Encoder layer on maps with any attention and feed-forward part.

Shapes: B batch, C channels, H x W map. Every map is (B, C, H, W).
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d

from ultralytics.nn.modules.encoders.forms import build_mlp, find_attention
from ultralytics.nn.modules.transformer import LayerActivation, _make_act
from ultralytics.nn.modules.utils import add_clamped
from ultralytics.nn.registry import channels_first, register

__all__ = ("AttentionEncoderLayer",)


@register(channels_first)
class AttentionEncoderLayer(nn.Module):
    """Attention and feed-forward part by name on a map, each with a shortcut and a norm over channels; post-norm.

    The frame of the forks' `TransformerEncoderLayer_*` rows, in the place of AIFI (RT-DETR, arXiv 2304.08069, 4.2). It
    adds no position embedding. YAML `[cm, heads]`; channels are inferred and kept.

    Args:
        c1: Channels C.
        cm: Hidden width of the feed-forward part.
        num_heads: Attention heads, for attentions that have a choice.
        dropout: Dropout probability, at three places.
        act: Activation of the feed-forward part; GELU when None.
        normalize_before: Pre-norm instead of post-norm; forks ignore it.
        attention: A name of `forms.ATTENTIONS`, or a registered block that keeps its channels; None: that of the class.
        mlp: `FFN` (two 1x1 convolutions), `CGLU`, or a registered block that keeps its channels.

    Raises:
        ConfigError: An unknown name, or a width that the part cannot have.
    """

    default_attention: ClassVar[str] = "SHSA"

    def __init__(
        self,
        c1: int,
        cm: int = 2048,
        num_heads: int = 8,
        dropout: float = 0.0,
        act: LayerActivation = None,
        normalize_before: bool = False,
        attention: str | None = None,
        mlp: str = "FFN",
    ) -> None:
        super().__init__()
        form = find_attention(self.default_attention if attention is None else attention)
        self.attention_key = form.key
        self.add_module(form.key, form.build(c1, num_heads))
        self.mlp: nn.Module | None = None
        if mlp == "FFN":
            self.fc1 = nn.Conv2d(c1, cm, 1)
            self.fc2 = nn.Conv2d(cm, c1, 1)
        else:
            self.mlp = build_mlp(mlp, c1, cm)
        self.norm1 = LayerNorm2d(c1, eps=1e-6)
        self.norm2 = LayerNorm2d(c1, eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        self.dropout1 = nn.Dropout(dropout)
        self.dropout2 = nn.Dropout(dropout)
        self.act = _make_act(act, nn.GELU)
        self.normalize_before = normalize_before

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        attention = self.get_submodule(self.attention_key)
        if self.normalize_before:
            x = x + self.dropout1(attention(self.norm1(x)))
            return add_clamped(x, self._feed_forward(self.norm2(x)))
        x = self.norm1(x + self.dropout1(attention(x)))
        return self.norm2(add_clamped(x, self._feed_forward(x)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        if self.mlp is not None:
            return self.dropout2(self.mlp(x))
        return self.dropout2(self.fc2(self.dropout(self.act(self.fc1(x)))))
