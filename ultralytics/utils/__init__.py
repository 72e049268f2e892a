"""Utilities that every other part may use; they import nothing of the rest of the package, and no torch.

`DEFAULT_CFG`, `DEFAULT_CFG_DICT` and `SETTINGS` are made when first asked for. The two defaults are fresh copies each
time, so nobody can change them for the others.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultralytics.utils import dist
from ultralytics.utils.config.absent import absent
from ultralytics.utils.config.namespace import IterableSimpleNamespace
from ultralytics.utils.config.paths import ASSETS, CFG_DIR, DEFAULT_CFG_PATH, ROOT
from ultralytics.utils.config.settings import SETTINGS, config_dir
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.log import LOGGER, TQDM, ProgressBar, colorstr, verbose_default

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


def _found(module: str, name: str) -> Callable[[], Any]:
    return lambda: getattr(importlib.import_module(f"ultralytics.utils.interface.{module}"), name)


def _called(name: str, *args: object) -> Callable[[], Any]:
    return lambda: _found("system", name)()(*args)


def _folder(setting: str) -> Path:
    return Path(SETTINGS[setting])


_SYSTEM = """MACOS LINUX WINDOWS ARM64 PYTHON_VERSION env_bool is_colab is_kaggle is_jupyter is_docker
is_github_action_running is_pytest_running is_online is_dir_writeable remove_colorstr deprecation_warn get_default_args
threaded TryExcept Retry get_ubuntu_version is_ubuntu is_raspberrypi is_pip_package plt_settings ThreadingLocked
SimpleClass""".split()

_COMPUTED: Mapping[str, Callable[[], Any]] = {
    "__version__": lambda: importlib.import_module("ultralytics").__version__,
    "RANK": dist.rank,
    "LOCAL_RANK": dist.local_rank,
    "WORLD_SIZE": dist.world_size,
    **dict.fromkeys(("TESTS_RUNNING", "ONLINE", "AUTOINSTALL"), lambda: False),
    "VERBOSE": verbose_default,
    "USER_CONFIG_DIR": config_dir,
    "SETTINGS_FILE": lambda: SETTINGS.file,
    "get_user_config_dir": lambda: config_dir,
    "DEFAULT_CFG_KEYS": lambda: list(YAML.load(DEFAULT_CFG_PATH)),
    "NUM_THREADS": lambda: min(8, max(1, (os.cpu_count() or 1) - 1)),
    **{name: _found("system", name) for name in _SYSTEM},
    **{f"IS_{name.upper()}": _called(f"is_{name}") for name in ("colab", "kaggle", "jupyter", "docker")},
    **{f"{name.upper()}_VERSION": _called("package_version", name) for name in ("torch", "torchvision")},
    **{name.upper(): partial(_folder, name) for name in ("datasets_dir", "runs_dir", "weights_dir")},
    **{name: _found("images", name) for name in ("imread", "imwrite", "imshow")},
    **{name: _found("paths", name) for name in ("clean_url", "url2file")},
}
"""Names that depend on the environment, which is read when they are asked for, and those of `utils.interface`."""
