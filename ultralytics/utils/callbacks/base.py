"""The table of events under the interface's path of modules."""

from __future__ import annotations

from typing import Any

from ultralytics.utils import callbacks
from ultralytics.utils.callbacks import add_integration_callbacks, get_default_callbacks

__all__ = ["add_integration_callbacks", "get_default_callbacks"]


def __getattr__(name: str) -> Any:
    return getattr(callbacks, name)
