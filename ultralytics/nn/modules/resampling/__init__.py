"""Blocks that change the size of a map: downsampling, wavelets, stems, upsampling."""

from __future__ import annotations

from ultralytics.nn.modules.resampling.context_guided import (
    C2f_ContextGuided,
    ContextGuidedBlock,
    ContextGuidedBlock_Down,
)
from ultralytics.nn.modules.resampling.downsampling import (
    LAWDS,
    AConv,
    ADown,
    SPDConv,
)
from ultralytics.nn.modules.resampling.robust import (
    DRFD,
    SRFD,
)
from ultralytics.nn.modules.resampling.upsampling import (
    CARAFE,
    EUCB,
    Dy_Sample,
    DySample,
)
from ultralytics.nn.modules.resampling.wavelet import (
    HWD,
)

__all__ = (
    "CARAFE",
    "DRFD",
    "EUCB",
    "HWD",
    "LAWDS",
    "SRFD",
    "AConv",
    "ADown",
    "C2f_ContextGuided",
    "ContextGuidedBlock",
    "ContextGuidedBlock_Down",
    "DySample",
    "Dy_Sample",
    "SPDConv",
)
