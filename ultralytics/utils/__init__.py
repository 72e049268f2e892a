"""Utilities that every other part may use; they import nothing of the rest of the package, and no torch.

`DEFAULT_CFG`, `DEFAULT_CFG_DICT` and `SETTINGS` are made when first asked for. The two defaults are fresh copies each
time, so nobody can change them for the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ultralytics.utils.config.namespace import IterableSimpleNamespace
from ultralytics.utils.config.paths import ASSETS, CFG_DIR, DEFAULT_CFG_PATH, ROOT
from ultralytics.utils.config.settings import SETTINGS
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.log import LOGGER, TQDM, ProgressBar, colorstr

if TYPE_CHECKING:
    DEFAULT_CFG: IterableSimpleNamespace
    DEFAULT_CFG_DICT: dict[str, Any]

__all__ = [
    "ASSETS",
    "CFG_DIR",
    "DEFAULT_CFG",
    "DEFAULT_CFG_DICT",
    "DEFAULT_CFG_PATH",
    "LOGGER",
    "ROOT",
    "SETTINGS",
    "TQDM",
    "YAML",
    "IterableSimpleNamespace",
    "ProgressBar",
    "colorstr",
]


def __getattr__(name: str) -> Any:
    if name == "DEFAULT_CFG_DICT":
        return YAML.load(DEFAULT_CFG_PATH)
    if name == "DEFAULT_CFG":
        return IterableSimpleNamespace(**YAML.load(DEFAULT_CFG_PATH))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
