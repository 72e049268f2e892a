"""Freed memory that stays in the process: counted in page faults, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from ultralytics.nn.cpu import malloc as heap
from ultralytics.nn.cpu.malloc import retain_freed_memory

MB = 1 << 20
CODE = f"""
import ctypes, os, resource, runpy
functions = runpy.run_path({heap.__file__!r})  # without the package, which imports torch
retain_freed_memory, retained_memory = functions["retain_freed_memory"], functions["retained_memory"]
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        block = libc.malloc(16 << 20)
        ctypes.memset(block, 1, 16 << 20)
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
"""

glibc = pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", ()) or not os.path.exists("/proc/self/statm"),
    reason="needs Linux with glibc",
)


def run(code: str, **env: str) -> Any:
    """Return the value that `code` prints in a fresh process, with glibc's variables as given."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", CODE + code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**clean, **env})
    return [int(x) for x in done.stdout.split()]


@glibc
def test_blocks_are_taken_again_without_new_pages() -> None:
    pages = 16 * MB // os.sysconf("SC_PAGE_SIZE")
    kept, again = run("print(int(retain_freed_memory()), end=' '); faults(); print(faults())")
    assert kept == 1
    assert again < pages / 2  # ten blocks of 4096 pages each would be 40960


@glibc
def test_the_block_gives_back_what_is_free_at_its_end() -> None:
    code = """
with retained_memory():
    blocks = [libc.malloc(16 << 20) for _ in range(40)]
    for block in blocks:
        ctypes.memset(block, 1, 16 << 20)
    for block in blocks:
        libc.free(block)
    inside = resident()
print(inside, resident())
"""
    inside, after = run(code)
    assert inside - after > 600 * MB


@glibc
def test_more_than_the_limit_goes_back_at_once() -> None:
    code = """
retain_freed_memory(64 << 20)
blocks = [libc.malloc(16 << 20) for _ in range(40)]
for block in blocks:
    ctypes.memset(block, 1, 16 << 20)
full = resident()
for block in blocks:
    libc.free(block)
print(full, resident())
"""
    full, after = run(code)
    assert full - after > 500 * MB


@glibc
@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_what_the_user_has_set_up_stays(name: str) -> None:
    value = "2" if name.startswith("MALLOC") else "glibc.malloc.arena_max=2"
    assert run("print(int(retain_freed_memory()))", **{name: value}) == [0]


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "confstr_names", {}, raising=False)
    assert retain_freed_memory() is False


def test_nothing_is_set_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "retain_freed_memory", None)
    with heap.retained_memory(False):
        pass
