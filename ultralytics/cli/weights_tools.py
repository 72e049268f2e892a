"""`yolo fetch` and `yolo push`: published weights from their address, and a model to the hub.

Nothing here imports torch before a tool runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import ultralytics
from ultralytics.utils.log import LOGGER


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


def fetch_weights(call: WeightsCall) -> None:
    """Fetch the named weights; without a name, list the catalogue."""
    if call.files:
        ultralytics.fetch(call.files, **call.own)
        return
    for line in importlib.import_module("ultralytics.engine.published").catalogue_lines():
        LOGGER.info(line)


def push(call: WeightsCall) -> None:
    """Upload a model, or a folder of format=hf."""
    own = {"private": True, "message": "Upload model", **call.own}
    folder = Path(str(call.values["model"]))
    if folder.is_dir():
        importlib.import_module("ultralytics.engine.export.hub_push").push_folder(folder, **own)
    else:
        call.model.push(**own)
