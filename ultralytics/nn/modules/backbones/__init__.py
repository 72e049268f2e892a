"""Backbones of other libraries by one row; importing this package registers the rows and imports no such library."""

from __future__ import annotations

from ultralytics.nn.modules.backbones.maps import MapBackbone, load_row_weights
from ultralytics.nn.modules.backbones.timm_rows import Timm
from ultralytics.nn.modules.backbones.torchvision_rows import TorchVision

__all__ = ("MapBackbone", "Timm", "TorchVision", "load_row_weights")
