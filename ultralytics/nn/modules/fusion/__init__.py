"""Blocks that join maps, and the necks and cross-stage blocks between them."""

from __future__ import annotations

from ultralytics.nn.modules.fusion.attentive import (
    CAFM,
    GLSA,
    SBA,
    CAFMFusion,
    CGAFusion,
    ChannelAttention_HSFPN,
)
from ultralytics.nn.modules.fusion.elan import (
    RepConvN,
    RepNBottleneck,
    RepNCSP,
    RepNCSPELAN4,
)
from ultralytics.nn.modules.fusion.gather import (
    ContextGuideFusionModule,
    FocusFeature,
    SimFusion_3in,
    SimFusion_4in,
)
from ultralytics.nn.modules.fusion.joins import (
    SDI,
    Add,
    Bi_FPN,
    Fusion,
    GetIndexOutput,
    Multiply,
    Zoom_cat,
)
from ultralytics.nn.modules.fusion.omni import (
    CSPOmniKernel,
    OmniKernel,
)
from ultralytics.nn.modules.fusion.scale_sequence import (
    DynamicScalSeq,
    ScalSeq,
    asf_attention_model,
)
from ultralytics.nn.modules.fusion.slim_neck import (
    GSConv,
    VoVGSCSP,
    VoVGSCSPC,
)

__all__ = (
    "CAFM",
    "GLSA",
    "SBA",
    "SDI",
    "Add",
    "Bi_FPN",
    "CAFMFusion",
    "CGAFusion",
    "CSPOmniKernel",
    "ChannelAttention_HSFPN",
    "ContextGuideFusionModule",
    "DynamicScalSeq",
    "FocusFeature",
    "Fusion",
    "GSConv",
    "GetIndexOutput",
    "Multiply",
    "OmniKernel",
    "RepConvN",
    "RepNBottleneck",
    "RepNCSP",
    "RepNCSPELAN4",
    "ScalSeq",
    "SimFusion_3in",
    "SimFusion_4in",
    "VoVGSCSP",
    "VoVGSCSPC",
    "Zoom_cat",
    "asf_attention_model",
)
