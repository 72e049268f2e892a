"""`yolo fetch` and `yolo push`: published weights from their address, and a model to the hub.

Nothing here imports torch before a tool runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import ultralytics


class WeightsCall(Protocol):
    """What the tools here read of a command's tokens."""

    @property
    def files(self) -> Sequence[str]: ...

    @property
    def own(self) -> Mapping[str, Any]: ...

    @property
    def model(self) -> Any: ...

    @property
    def values(self) -> Mapping[str, Any]: ...


def fetch_published(call: WeightsCall) -> None:
    """Fetch the named weights; without a name, list the catalogue."""
    ultralytics.fetch(call.files, **call.own)


def push(call: WeightsCall) -> None:
    """Upload a model, or a folder of format=hf."""
    folder = Path(str(call.values["model"]))
    if folder.is_dir():
        ultralytics.push(folder, **call.own)
    else:
        call.model.push(**call.own)
