"""Small functions that scripts of the interface import; they are found under its paths, such as `utils.checks`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ultralytics.utils.config.absent import absent_names


def interface_names(module: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module for names that scripts look up in it and another one defines.

    `places` holds the modules of such names, below `ultralytics.utils`. For other names see `absent_names`.
    """
    return absent_names(module, {name: (f"ultralytics.utils.{place}", name) for name, place in places.items()})
