"""Reading, writing and showing pictures under the interface's path of modules; nothing is patched."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from ultralytics.utils.config.absent import absent
from ultralytics.utils.interface.images import imread, imshow, imwrite

__all__ = ["imread", "imshow", "imwrite"]


if not TYPE_CHECKING:  # a type checker shall see what is missing

    def __getattr__(name: str) -> NoReturn:
        raise absent(__name__, name)
