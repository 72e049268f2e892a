"""Settings of a user that outlive a run: the folders of runs, data sets and weights.

They are read on first use and written only by `update` and `reset`; importing touches no file.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ultralytics.utils.errors import ConfigError, ConfigTypeError
from ultralytics.utils.files import atomic_write
from ultralytics.utils.log import LOGGER

LOGGER_SETTINGS = ("tensorboard", "wandb", "mlflow", "swanlab", "clearml", "comet")
"""Switches of the loggers of training runs; each has the name that the argument `loggers` knows."""

DEFAULTS: Mapping[str, Any] = {
    "settings_version": "1",
    "datasets_dir": "datasets",
    "weights_dir": "weights",
    "runs_dir": "runs",
    **dict.fromkeys(LOGGER_SETTINGS, False),
}
"""Keys with their defaults. Relative folders are relative to the working directory of the run."""

MAX_SETTINGS = 1 << 20
"""Characters of the file that are read."""

INERT: Mapping[str, Any] = {
    **dict.fromkeys(("sync", "dvc", "hub", "neptune", "raytune", "vscode_msg", "openvino_msg"), False),
    **dict.fromkeys(("uuid", "api_key", "openai_api_key"), ""),
}
"""Settings of the interface that have no effect here, since nothing is sent anywhere; they cannot be changed."""


class UnknownSettingError(ConfigError, KeyError):
    """There is no setting of that name."""

    def __str__(self) -> str:
        return ConfigError.__str__(self)


def config_dir() -> Path:
    """Folder of the settings file: below `$YOLO_CONFIG_DIR`, else the system's place for user settings."""
    if given := os.getenv("YOLO_CONFIG_DIR"):
        base = Path(given).expanduser()
    elif sys.platform == "win32":
        base = Path.home() / "AppData" / "Roaming"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.getenv("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "rtdetr-shsa"


class Settings(Mapping[str, Any]):
    """A read-only view of the settings, changed by `update` and `reset`, each of which saves.

    The file holds only what differs from the defaults. A file that cannot be read gives the defaults and a warning.
    """

    def __init__(self, file: str | Path | None = None) -> None:
        self._file = None if file is None else Path(file)
        self._changes: dict[str, Any] | None = None

    @property
    def file(self) -> Path:
        """Path of the settings file, which may not exist."""
        return self._file or config_dir() / "settings.json"

    def __getitem__(self, key: str) -> Any:
        if key in INERT:
            return INERT[key]
        self._check_key(key)
        return self._values()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(DEFAULTS)

    def __len__(self) -> int:
        return len(DEFAULTS)

    def __str__(self) -> str:
        return "\n".join([f"file: {self.file}", *(f"{k}: {v}" for k, v in self.items())])

    def update(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Change settings and save them; those of the interface that have no effect here are reported and left out.

        Raises:
            UnknownSettingError: there is no such key.
            ConfigTypeError: a value has the wrong type.
        """
        given = {**(values or {}), **more}
        if idle := sorted(INERT.keys() & given.keys()):
            LOGGER.warning(f"settings without effect here: {', '.join(idle)}; nothing is sent to a service")
            given = {k: v for k, v in given.items() if k not in INERT}
        for key, value in given.items():
            self._check_key(key)
            self._check_type(key, value)
        merged = {**self._values(), **{k: str(v) if isinstance(v, Path) else v for k, v in given.items()}}
        self._changes = {k: v for k, v in merged.items() if v != DEFAULTS[k]}
        self._save()

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def reset(self) -> None:
        """Return to the defaults and save."""
        self._changes = {}
        self._save()

    def _values(self) -> dict[str, Any]:
        if self._changes is None:
            self._changes = self._read()
        return {**DEFAULTS, **self._changes}

    def _read(self) -> dict[str, Any]:
        try:
            with self.file.open(encoding="utf-8") as f:
                data = json.loads(f.read(MAX_SETTINGS))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as e:
            LOGGER.warning(f"{self.file}: settings cannot be read ({e}); the defaults are used")
            return {}
        known = data if isinstance(data, dict) else {}
        return {k: v for k, v in known.items() if k in DEFAULTS and isinstance(v, type(DEFAULTS[k]))}

    def _save(self) -> None:
        changes = self._changes or {}
        try:
            with atomic_write(self.file) as f:
                json.dump({"settings_version": DEFAULTS["settings_version"], **changes}, f, indent=2)
                f.write("\n")
        except OSError as e:
            raise ConfigError(
                f"{self.file}: settings cannot be saved ({e.strerror})\n"
                "Set YOLO_CONFIG_DIR to a folder that can be written."
            ) from None

    @staticmethod
    def _check_key(key: str) -> None:
        if key not in DEFAULTS:
            near = difflib.get_close_matches(str(key), DEFAULTS, n=2, cutoff=0.5)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"Settings: {', '.join(DEFAULTS)}."
            raise UnknownSettingError(f"there is no setting {key!r}\n{hint}")

    @staticmethod
    def _check_type(key: str, value: Any) -> None:
        want = type(DEFAULTS[key])
        ok = isinstance(value, want) or (want is str and isinstance(value, Path))
        if not ok:
            raise ConfigTypeError(
                f"setting {key}={value!r} must be of type {want.__name__}, not {type(value).__name__}"
            )


SETTINGS = Settings()
