"""The encoder rows of forks by their names: `AttentionEncoderLayer` with another default attention.

The misspelt name of one of them is that of the forks' YAML files.
"""

from __future__ import annotations

from ultralytics.nn.modules.encoders.frame import AttentionEncoderLayer
from ultralytics.nn.registry import channels_first, register


def _variant(name: str, attention: str) -> type[AttentionEncoderLayer]:
    """Return a registered class of the frame."""
    doc = f"`AttentionEncoderLayer` with the attention `{attention}` unless another is given. YAML `[cm, heads]`."
    body = {"__module__": __name__, "__doc__": doc, "default_attention": attention}
    return register(channels_first)(type(f"TransformerEncoderLayer_{name}", (AttentionEncoderLayer,), body))


TransformerEncoderLayer_DAttention = _variant("DAttention", "DAttention")
TransformerEncoderLayer_EfficientAdditiveAttnetion = _variant(
    "EfficientAdditiveAttnetion", "EfficientAdditiveAttention"
)
TransformerEncoderLayer_DHSA = _variant("DHSA", "SortedDHSA")
TransformerEncoderLayer_HiLo = _variant("HiLo", "HiLo")
TransformerEncoderLayer_Pola = _variant("Pola", "Pola")
TransformerEncoderLayer_LocalWindowAttention = _variant("LocalWindowAttention", "LocalWindowAttention")
TransformerEncoderLayer_SHSA = _variant("SHSA", "ForkSHSA")
TransformerEncoderLayer_EPGO = _variant("EPGO", "EPGO")
TransformerEncoderLayer_SHSA_EPGO = _variant("SHSA_EPGO", "SHSA_EPGO")
