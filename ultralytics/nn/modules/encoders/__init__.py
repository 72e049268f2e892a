"""AIFI with another attention, position embedding or norm; importing this package registers the rows."""

from __future__ import annotations

from ultralytics.nn.modules.encoders.frame import AttentionEncoderLayer
from ultralytics.nn.modules.encoders.tokens import AIFI_LPE, AIFI_RepBN
from ultralytics.nn.modules.encoders.variants import (
    TransformerEncoderLayer_DAttention,
    TransformerEncoderLayer_DHSA,
    TransformerEncoderLayer_EfficientAdditiveAttnetion,
    TransformerEncoderLayer_EPGO,
    TransformerEncoderLayer_HiLo,
    TransformerEncoderLayer_LocalWindowAttention,
    TransformerEncoderLayer_Pola,
    TransformerEncoderLayer_SHSA,
    TransformerEncoderLayer_SHSA_EPGO,
)

__all__ = (
    "AIFI_LPE",
    "AIFI_RepBN",
    "AttentionEncoderLayer",
    "TransformerEncoderLayer_DAttention",
    "TransformerEncoderLayer_DHSA",
    "TransformerEncoderLayer_EPGO",
    "TransformerEncoderLayer_EfficientAdditiveAttnetion",
    "TransformerEncoderLayer_HiLo",
    "TransformerEncoderLayer_LocalWindowAttention",
    "TransformerEncoderLayer_Pola",
    "TransformerEncoderLayer_SHSA",
    "TransformerEncoderLayer_SHSA_EPGO",
)
