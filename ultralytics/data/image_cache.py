"""Keeping decoded, resized images: in memory, or as `.npy` files beside the images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import atomic_write
from ultralytics.utils.log import LOGGER, ProgressBar
from ultralytics.utils.torch_tools.arrays import Pixels

_THREADS = min(8, os.cpu_count() or 1)
_MEMORY_PART = 0.8  # of the free memory that a cache may take
_DISK_RESERVE = 1.1
INT64 = (1 << 63) - 1  # times that need more bits lose the upper ones


def cache_mode(cache: object) -> str | None:
    """Return "ram", "disk" or None for an argument `cache`; raise ConfigError for anything else."""
    modes: dict[Any, str | None] = {None: None, False: None, "": None, True: "ram", "ram": "ram", "disk": "disk"}
    key = cache.lower() if isinstance(cache, str) else cache
    try:
        return modes[key]
    except (KeyError, TypeError):
        raise ConfigError(f"cache={cache!r} must be True, False, 'ram' or 'disk'") from None


def may_write(folder: Path) -> bool:
    """Return whether files may be put into a folder; one without any write permission is left alone by root too."""
    return os.access(folder, os.W_OK) and bool(folder.stat().st_mode & 0o222)


def free_memory() -> int | None:
    """Return the bytes of memory that can be taken without swapping, None where the system does not report it."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


class ImageCache:
    """Images by index, resized as the network takes them; what is cached equals what loading would give.

    `load(i)` decodes and resizes image i; `tag` (size and method of resizing) is part of the file names on disk.
    `shapes` (N, 2) are the (h, w) of the images, which loading corrects and a file on disk brings back; `sizes` the
    bytes of each image as it is kept. With mode None nothing is kept. A cache that does not fit is not made, with a
    warning.
    """

    def __init__(
        self,
        mode: str | None,
        files: Sequence[str],
        load: Callable[[int], Pixels],
        tag: str,
        shapes: NDArray[Any],
        sizes: Sequence[int],
    ) -> None:
        self.files, self._load, self._tag, self._shapes = files, load, tag, shapes
        self._ram: list[Pixels | None] = [None] * len(files)
        self.mode = mode if mode and self._fits(mode, sizes) else None

    def __getitem__(self, i: int) -> Pixels:
        """Return image i, uint8 (H, W, C) BGR, from the cache if it is there and made of the present image file."""
        if self.mode == "ram":
            image = self._ram[i]
            return self._load(i) if image is None else image
        if self.mode == "disk":
            image = self._read(i)
            return self._write(i) if image is None else image
        return self._load(i)

    def fill(self, desc: str = "") -> None:
        """Load all images now, in threads, so that worker processes share them."""
        if self.mode is None or not self.files:
            return
        total = 0
        bar: ProgressBar[None] = ProgressBar(total=len(self.files), desc=desc)
        with ThreadPoolExecutor(_THREADS) as pool, bar:
            for i, image in enumerate(pool.map(self.__getitem__, range(len(self.files)))):
                total += image.nbytes
                if self.mode == "ram":
                    self._ram[i] = image
                bar.update()
            bar.set_description(f"{desc} {total / 1e9:.2f} GB in {self.mode}")

    def path(self, i: int) -> Path:
        """Return where image i lies on disk."""
        return Path(f"{self.files[i]}.{self._tag}.npy")

    def _fits(self, mode: str, sizes: Sequence[int]) -> bool:
        if not self.files:
            return True
        if mode == "ram":
            free, need = free_memory(), sum(sizes)
            ok = free is None or need < free * _MEMORY_PART
            where = f"free memory {(free or 0) / 1e9:.1f} GB"
        else:
            folder = Path(self.files[0]).parent
            free, need = shutil.disk_usage(folder).free, self._absent(sizes)
            ok = not need or (may_write(folder) and need * _DISK_RESERVE < free)
            where = f"{folder}: {free / 1e9:.1f} GB free{'' if may_write(folder) else ', read-only'}"
        if not ok:
            LOGGER.warning(f"cache='{mode}' needs {need / 1e9:.1f} GB ({where}); images are read each time instead")
        return ok

    def _absent(self, sizes: Sequence[int]) -> int:
        """Return the bytes of the images that are not on disk yet."""
        return sum(size for i, size in enumerate(sizes) if not os.path.exists(self.path(i)))

    def _stamp(self, i: int) -> NDArray[np.int64]:
        """Return size and time of change of the image file: a file that replaced it differs, even if it is older."""
        stat = os.stat(self.files[i])
        return np.array([stat.st_size, stat.st_mtime_ns & INT64], np.int64)

    def _read(self, i: int) -> Pixels | None:
        try:
            with open(self.path(i), "rb") as file:
                image, source = np.load(file, allow_pickle=False), np.load(file, allow_pickle=False)
            stamp = self._stamp(i)
        except (OSError, ValueError, EOFError, MemoryError):  # absent, cut off, or damaged
            return None
        except SystemError:  # CPython 3.11 parses literals, such as the header of an array, in one thread only
            return None
        if image.dtype != np.uint8 or image.ndim != 3 or source.shape != (4,) or (source[:2] != stamp).any():
            return None
        self._shapes[i] = source[2:]
        return image

    def _write(self, i: int) -> Pixels:
        """Load an image and keep it; behind it in the file are size and time of its source, and the source's (h, w)."""
        try:
            stamp = self._stamp(i)  # before the reading: a change while it lasts must not go unseen
        except OSError:
            return self._load(i)
        image = self._load(i)
        try:
            with atomic_write(self.path(i), "wb") as file:
                np.save(file, image)
                np.save(file, np.concatenate([stamp, self._shapes[i]]))
        except OSError as error:
            LOGGER.warning(f"{self.path(i)}: not cached: {error}")
        return image
