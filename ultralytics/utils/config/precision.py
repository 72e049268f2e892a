"""Precisions by name: in how many bits they are, and where they can be asked for.

All lists of precisions are derived from this one: the values of `amp` and `quantize`, the precisions of exported files
and of replays. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Precision(NamedTuple):
    """A precision that networks are trained, run or exported in.

    Fields: name; bits that `quantize` asks for, None where it cannot; data type of torch for autocast, None where there
    is no such training; other names for the bits.
    """

    name: str
    bits: int | None
    amp: str | None
    aliases: tuple[str, ...] = ()


PRECISIONS = (
    Precision("fp32", 32, "float32", ("w32a32",)),
    Precision("fp16", 16, "float16", ("w16a16",)),
    Precision("bf16", None, "bfloat16"),
    Precision("int8", 8, None, ("w8a8",)),
)

MIXED_BITS = ("w8a16", "w8a32")
"""Values of `quantize` for weights and activations of different bits, which no format of this package has."""

AMP_TYPES: Mapping[str, str] = {p.name: p.amp for p in PRECISIONS if p.amp}
"""Data type of torch of each precision that `amp` can name."""

NAME_OF_BITS: Mapping[int | str | None, str] = {
    None: "fp32",
    **{p.bits: p.name for p in PRECISIONS if p.bits is not None},
}
"""Precision of an exported file for a value of `quantize`; None: it was not given."""

EXPORTED_PRECISIONS = tuple(p.name for p in PRECISIONS if p.bits is not None)

BITS_OF_NAME: Mapping[str, int | str] = {
    **{name: p.bits for p in PRECISIONS if p.bits is not None for name in (str(p.bits), p.name, *p.aliases)},
    **{name: name for name in MIXED_BITS},
}
"""Value of `quantize` for every way to write it."""
