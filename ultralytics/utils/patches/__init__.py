"""Reading, writing and showing pictures under the interface's path of modules; nothing is patched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ultralytics.utils.config.absent import absent_names
from ultralytics.utils.interface.images import imread, imshow, imwrite

__all__ = ["imread", "imshow", "imwrite"]


if not TYPE_CHECKING:  # a type checker shall see what is missing
    __getattr__ = absent_names(__name__)
