"""The table of contents of a zip file, bounded before `zipfile` reads it whole."""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import BinaryIO

MAX_DIRECTORY = 16 << 20  # bytes of the zip's table of contents, about 70 a member
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    RuntimeError,  # encrypted member
    NotImplementedError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
)
"""What `zipfile` raises for damaged and hostile files."""


def check_directory(f: BinaryIO, size: int) -> None:
    """Bound the table of contents of a zip file of `size` bytes; ValueError for one that is too long or missing."""
    start = max(size - (1 << 16) - 128, 0)
    f.seek(start)
    tail = f.read()
    if b"PK\x05\x06" not in tail:
        raise ValueError("it has none, so the file is truncated")
    length = max(*_claims(tail, b"PK\x05\x06", 12, "<I"), *_claims(tail, b"PK\x06\x06", 40, "<Q"))
    if length > MAX_DIRECTORY:
        raise ValueError(f"it has {length:,} bytes, above {MAX_DIRECTORY:,}")


def _claims(tail: bytes, signature: bytes, offset: int, form: str) -> list[int]:
    """Return the lengths that all end records state, 0 at least: which of several is read is up to the reader."""
    found, at = [0], tail.find(signature)
    while at >= 0:
        if at + offset + struct.calcsize(form) <= len(tail):
            (length,) = struct.unpack_from(form, tail, at + offset)
            found.append(0 if form == "<I" and length == 0xFFFFFFFF else length)  # that stands for the longer record
        at = tail.find(signature, at + 1)
    return found


def zip_reason(error: Exception) -> str:
    """The first line of an error, for a message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
