"""Hashes of fetched files, noted at the first fetch: a later fetch of the same name must bring the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import atomic_write
from ultralytics.utils.remote.web import read_small

LOCK_NAME = "weights.lock.json"
MAX_LOCK = 4 << 20


class HashPins:
    """The lock file of a weights folder: hash, size and origin of each file by its name below the folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_NAME

    def read(self) -> dict[str, Mapping[str, Any]]:
        """Return all entries. Raises ConfigError for a file that is not a lock file."""
        try:
            data: Any = read_small(self.path, MAX_LOCK)
        except FileNotFoundError:
            return {}
        except ValueError as e:
            raise ConfigError(f"{self.path}: not a lock file ({e})", "remove it; hashes are then noted again") from None
        entries = data.get("files") if isinstance(data, Mapping) else None
        if not isinstance(entries, Mapping) or not all(isinstance(e, Mapping) for e in entries.values()):
            raise ConfigError(f"{self.path}: not a lock file", "remove it; hashes are then noted again")
        return dict(entries)

    def sha256(self, file: str) -> str | None:
        """The hash that was noted for a file, None without one."""
        found = self.read().get(file, {}).get("sha256")
        return found if isinstance(found, str) else None

    def note(self, file: str, sha256: str, size: int, origin: str) -> None:
        """Note the hash of a file, which has none yet or the same one."""
        day = datetime.now(timezone.utc).isoformat(timespec="seconds")
        entry = {"sha256": sha256, "bytes": size, "source": origin, "date": day}
        with atomic_write(self.path) as f:
            json.dump({"version": 1, "files": {**self.read(), file: entry}}, f, indent=1, sort_keys=True)
            f.write("\n")
