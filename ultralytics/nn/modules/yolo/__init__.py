"""Blocks and heads of the YOLO family that the other modules do not have; importing it registers them."""

from __future__ import annotations

from ultralytics.nn.modules.yolo.area import A2C2f, AAttn, ABlock
from ultralytics.nn.modules.yolo.cib import CIB, C2fCIB, RepVGGDW
from ultralytics.nn.modules.yolo.csp import BottleneckCSP, C2fPSA, C3f, C3k, C3k2, C3x
from ultralytics.nn.modules.yolo.detect import DFL, Detect, v10Detect
from ultralytics.nn.modules.yolo.elan import ELAN1, SPPELAN, RepBottleneck, RepCSP
from ultralytics.nn.modules.yolo.ghost import C3Ghost, GhostBottleneck
from ultralytics.nn.modules.yolo.proto import Proto, Proto26
from ultralytics.nn.modules.yolo.text import (
    BNContrastiveHead,
    C2fAttn,
    ContrastiveHead,
    ImagePoolingAttn,
    MaxSigmoidAttnBlock,
)
from ultralytics.nn.modules.yolo.transformer import C3TR, TransformerBlock, TransformerLayer

__all__ = (
    "C3TR",
    "CIB",
    "DFL",
    "ELAN1",
    "SPPELAN",
    "A2C2f",
    "AAttn",
    "ABlock",
    "BNContrastiveHead",
    "BottleneckCSP",
    "C2fAttn",
    "C2fCIB",
    "C2fPSA",
    "C3Ghost",
    "C3f",
    "C3k",
    "C3k2",
    "C3x",
    "ContrastiveHead",
    "Detect",
    "GhostBottleneck",
    "ImagePoolingAttn",
    "MaxSigmoidAttnBlock",
    "Proto",
    "Proto26",
    "RepBottleneck",
    "RepCSP",
    "RepVGGDW",
    "TransformerBlock",
    "TransformerLayer",
    "v10Detect",
)
