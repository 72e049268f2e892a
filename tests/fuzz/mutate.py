"""Changes that files go through: of bytes, of lines, and of the values that a file holds."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

INTERESTING = (
    b"\x00",
    b"\xff",
    b"\x80\x02",
    b"PK\x05\x06",
    b"\xff\xff\xff\x7f",
    b"\x1b[2J",
    b"\xed\xa0\x80",
    b"=1+1,",
    b"\n",
)
TOKENS = (
    "nan",
    "inf",
    "-1",
    "1e400",
    "0x10",
    "9" * 30,
    "9" * 5000,
    "",
    "~x/y",
    "a" * 300,
    "\x00",
    "\ud800",
    "../..",
    "=A1",
)
ODD: tuple[Callable[[], Any], ...] = (
    lambda: None,
    lambda: True,
    lambda: -1,
    lambda: 0,
    lambda: 10**9,
    lambda: 10**30,
    lambda: -(2**63),
    lambda: 0.5,
    lambda: float("nan"),
    lambda: float("inf"),
    lambda: 1e300,
    lambda: "",
    lambda: "x",
    lambda: "nc",
    lambda: "\x1b[2J\x1b]0;t\x07",
    lambda: "\ud800",
    lambda: "a" * 5000,
    lambda: "~nobody/x",
    lambda: [],
    lambda: [1],
    lambda: [[]],
    lambda: ["a", None],
    lambda: {},
    lambda: {"a": 1},
    lambda: {0: "a", "1": []},
    lambda: b"\xff\x00",
)
"""Values that stand where another kind of value is expected."""


def mutated_bytes(rng: random.Random, data: bytes, most: int = 8) -> bytes:
    """Return the bytes after one to `most` changes."""
    out = bytearray(data)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(out) + 1)
        end = min(at + rng.randint(1, 40), len(out))
        kind = rng.randrange(6)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at:end] = b""
        elif kind == 2:
            out[at:at] = out[at:end]
        elif kind == 3:
            out[at:at] = rng.choice(INTERESTING)
        elif kind == 4:
            out[at:end] = rng.randbytes(end - at)
        elif rng.random() < 0.2:
            del out[at:]
    return bytes(out)


def mutated_text(rng: random.Random, text: str) -> str:
    """Return lines of tokens after a few changes."""
    lines = text.splitlines() or [""]
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(lines))
        tokens = lines[at].split(" ")
        place = rng.randrange(len(tokens))
        kind = rng.randrange(6)
        if kind < 3:
            tokens[place] = rng.choice(TOKENS)
        elif kind == 3:
            del tokens[place]
        elif kind == 4:
            tokens.insert(place, tokens[rng.randrange(len(tokens))] if tokens else "")
        else:
            lines.insert(at, lines[rng.randrange(len(lines))])
        lines[at] = " ".join(tokens)
    return "\n".join(lines) + rng.choice(("\n", "", "\r\n"))


def _containers(value: Any, found: list[Any]) -> None:
    if isinstance(value, (dict, list)) and value:
        found.append(value)
        for item in value.values() if isinstance(value, dict) else value:
            _containers(item, found)


def mutated_tree(rng: random.Random, value: Any, most: int = 3) -> Any:
    """Return a copy of nested dicts and lists in which one to `most` entries are odd, absent or doubled."""
    out = copy.deepcopy(value)
    for _ in range(rng.randint(1, most)):
        found: list[Any] = []
        _containers(out, found)
        if not found:
            return rng.choice(ODD)()
        place = rng.choice(found)
        key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
        kind = rng.randrange(8)
        if kind == 0:
            del place[key]
        elif kind == 1 and isinstance(place, dict):
            place[rng.choice(("x", 5, "names", "a" * 300))] = rng.choice(ODD)()
        elif kind == 1:
            place.insert(key, copy.deepcopy(place[key]))
        elif kind == 2 and isinstance(place[key], (int, float)):
            place[key] = place[key] * rng.choice((-1, 2, 1000, 10**12, 0.5))
        else:
            place[key] = rng.choice(ODD)()
    return out
