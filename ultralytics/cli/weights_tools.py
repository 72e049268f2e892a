"""`yolo fetch` and `yolo push`: published weights from their address, and a model to the hub.

Nothing here imports torch before a tool runs.
"""

from __future__ import annotations

from pathlib import Path

import ultralytics
from ultralytics.cli.tool_calls import ToolCall


def fetch_published(call: ToolCall) -> None:
    """Fetch the named weights; without a name, list the catalogue."""
    ultralytics.fetch(call.files, **call.own)


def push(call: ToolCall) -> None:
    """Upload a model, or a folder of format=hf."""
    folder = Path(str(call.values["model"]))
    if folder.is_dir():
        ultralytics.push(folder, **call.own)
    else:
        call.model.push(**call.own)
