"""Reading, writing and showing pictures under the interface's path of modules; nothing is patched."""

from __future__ import annotations

from ultralytics.utils.interface.images import imread, imshow, imwrite

__all__ = ["imread", "imshow", "imwrite"]
