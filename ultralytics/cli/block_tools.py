"""`yolo blocks`: the registered rows of model YAMLs. Nothing here imports torch before the tool runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import ultralytics
from ultralytics.utils.log import write_text
from ultralytics.utils.user_modules import load_user_modules


class Call(Protocol):
    """What the tools here read of a command's tokens."""

    @property
    def files(self) -> Sequence[str]: ...

    @property
    def own(self) -> Mapping[str, Any]: ...


def blocks(call: Call) -> None:
    """Print all rows as a table, or each named one with its constructor, cost and an example."""
    load_user_modules(call.own.get("modules"))
    write_text(sys.stdout, ultralytics.blocks(call.files, call.own.get("format", "text")))
