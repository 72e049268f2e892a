"""Utilities that every other part may use; they import nothing of the rest of the package, and no torch.

`DEFAULT_CFG`, `DEFAULT_CFG_DICT` and `SETTINGS` are made when first asked for. The two defaults are fresh copies each
time, so nobody can change them for the others.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultralytics.utils import dist
from ultralytics.utils.config.absent import absent
from ultralytics.utils.config.namespace import IterableSimpleNamespace
from ultralytics.utils.config.paths import ASSETS, CFG_DIR, DEFAULT_CFG_PATH, ROOT
from ultralytics.utils.config.settings import SETTINGS
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.log import LOGGER, TQDM, ProgressBar, colorstr

if TYPE_CHECKING:
    DEFAULT_CFG: IterableSimpleNamespace
    DEFAULT_CFG_DICT: dict[str, Any]
    LOCAL_RANK: int
    RANK: int
    TESTS_RUNNING: bool

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
    if name in _COMPUTED:
        return _COMPUTED[name]()
    raise absent(__name__, name)


def yaml_load(file: str | Path = "data.yaml", append_filename: bool = False) -> dict[str, Any]:
    """Read a YAML file; the former name of `YAML.load`."""
    return YAML.load(file, append_filename)


def yaml_save(file: str | Path = "data.yaml", data: Mapping[str, Any] | None = None, header: str = "") -> None:
    """Write a YAML file; the former name of `YAML.save`."""
    YAML.save(file, data, header)


def emojis(string: str = "") -> str:
    """Return a string without what a console of Windows cannot show; elsewhere as it is."""
    return string.encode("ascii", "ignore").decode() if sys.platform == "win32" else string


_COMPUTED: Mapping[str, Callable[[], Any]] = {
    "RANK": dist.rank,
    "LOCAL_RANK": dist.local_rank,
    "TESTS_RUNNING": lambda: False,
}
"""Names that depend on the environment, which is read when they are asked for."""
