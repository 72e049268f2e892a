"""Attention blocks of the library, one module a kin; importing this package registers them."""

from __future__ import annotations

from ultralytics.nn.modules.attention_blocks.acmix import ACmix
from ultralytics.nn.modules.attention_blocks.directional import CA, EMA, CoordAtt, TripletAttention
from ultralytics.nn.modules.attention_blocks.gates import ECA, MLCA, NAM, GAM_Attention, SEAttention, SimAM
from ultralytics.nn.modules.attention_blocks.histogram import DHSA
from ultralytics.nn.modules.attention_blocks.large_kernel import CPCA, LSKA, LSKBlock
from ultralytics.nn.modules.attention_blocks.linear import EfficientAdditiveAttention, PolaAttention
from ultralytics.nn.modules.attention_blocks.pruned import EPGO, PrunedSHSA, SiLUSHSA
from ultralytics.nn.modules.attention_blocks.sampled import DAttention
from ultralytics.nn.modules.attention_blocks.shsa_blocks import (
    C2f_SHSA,
    C2f_SHSA_CGLU,
    C2f_SHSA_EPGO,
    C2f_SHSA_EPGO_CGLU,
    SHSABlock,
)
from ultralytics.nn.modules.attention_blocks.window import BiLevelRoutingAttention_nchw, HiLo, LocalWindowAttention

__all__ = (
    "CA",
    "CPCA",
    "DHSA",
    "ECA",
    "EMA",
    "EPGO",
    "LSKA",
    "MLCA",
    "NAM",
    "ACmix",
    "BiLevelRoutingAttention_nchw",
    "C2f_SHSA",
    "C2f_SHSA_CGLU",
    "C2f_SHSA_EPGO",
    "C2f_SHSA_EPGO_CGLU",
    "CoordAtt",
    "DAttention",
    "EfficientAdditiveAttention",
    "GAM_Attention",
    "HiLo",
    "LSKBlock",
    "LocalWindowAttention",
    "PolaAttention",
    "PrunedSHSA",
    "SEAttention",
    "SHSABlock",
    "SiLUSHSA",
    "SimAM",
    "TripletAttention",
)
