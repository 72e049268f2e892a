"""Small functions that scripts of the interface import; they are found under its paths, such as `utils.checks`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from ultralytics.utils.config.absent import absent


def from_interface(owner: str, name: str, places: Mapping[str, str]) -> Any:
    """Return what scripts look up in the module `owner` and another one defines: the last step of its `__getattr__`.

    `places` holds the modules of such names, below `ultralytics.utils`. Raises AttributeError for other names, or
    ImportError for one of the interface that is not there.
    """
    if name not in places:
        raise absent(owner, name)
    return getattr(importlib.import_module(f"ultralytics.utils.{places[name]}"), name)
