"""Model families, imported on first use: `nn` imports `models.utils`, so this package must not import `nn` itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ultralytics.utils.config.absent import absent

if TYPE_CHECKING:
    from ultralytics.models.rtdetr import RTDETR
    from ultralytics.models.shvit import SHViTClassifier
    from ultralytics.models.yolo import YOLO

__all__ = ["RTDETR", "YOLO", "SHViTClassifier"]


def __getattr__(name: str) -> Any:
    """Import a family's model when it is first asked for."""
    if name == "RTDETR":
        from ultralytics.models.rtdetr import RTDETR

        return RTDETR
    if name == "SHViTClassifier":
        from ultralytics.models.shvit import SHViTClassifier

        return SHViTClassifier
    if name == "YOLO":
        from ultralytics.models.yolo import YOLO

        return YOLO
    raise absent(__name__, name)
