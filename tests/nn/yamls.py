"""Small model YAMLs for the tests, as text with known line numbers, and edits of them."""

from __future__ import annotations

TINY = """\
nc: 4
scales:
  n: [1.0, 1.0, 128]
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [24, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, SHSA, []]
  - [-1, 1, Conv, [48, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
head:
  - [-1, 1, AIFI, [64, 4]]
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 4], 1, Concat, [1]]
  - [-1, 1, RepC3, [32]]
  - [[3, 9, 6], 1, RTDETRDecoder, [nc, 32, 20, 4, 4, 1, 64]]
"""
FIRST_ROW = 5  # line of layer 0
HEAD_ROW = 11  # line of `head:`, between layers 5 and 6


def line_of(layer: int) -> int:
    """Line of a layer in TINY."""
    return FIRST_ROW + layer + (layer > 5)


def with_row(layer: int, row: str, text: str = TINY) -> str:
    """TINY with one row replaced."""
    lines = text.splitlines()
    lines[line_of(layer) - 1] = f"  - {row}"
    return "\n".join(lines) + "\n"


def with_line(line: int, new: str, text: str = TINY) -> str:
    """TINY with one line (counted from 1) replaced."""
    lines = text.splitlines()
    lines[line - 1] = new
    return "\n".join(lines) + "\n"
