"""Keep freed memory in the process while a network runs on the CPU.

glibc gives each large block back to the kernel when it is freed and asks for a fresh one for the next layer. The kernel
must then map and clear every page of it again, on all cores, for each activation of each step.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

# From glibc's malloc.h, and its largest value of the second on 64 bits.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD = -1, -3, 32 << 20

RETAINED_BETWEEN_CALLS = 512 << 20
"""Bytes of freed memory that a process may hold between two predictions; the rest is returned to the kernel."""

_RETAINED_IN_TRAINING = 2**31 - 1  # the largest number that `mallopt` takes


def retain_freed_memory(limit: int = RETAINED_BETWEEN_CALLS) -> bool:
    """Let the process hold up to `limit` bytes of freed memory, and take blocks below 32 MiB from it.

    Returns whether that was done: not without glibc, nor where the user has set malloc up by environment variables.
    The numbers that a network computes do not depend on it.
    """
    library = _glibc()
    if library is None:
        return False
    return bool(
        library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD) and library.mallopt(_M_TRIM_THRESHOLD, limit)
    )


@contextmanager
def retained_memory(wanted: bool = True) -> Iterator[None]:
    """Hold all freed memory inside the block, and give back at its end what is free then."""
    library = _glibc() if wanted and retain_freed_memory(_RETAINED_IN_TRAINING) else None
    try:
        yield
    finally:
        if library is not None:
            retain_freed_memory()
            library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library of this process, None where it is another one or the user has set malloc up."""
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return None
    if "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", ()):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
