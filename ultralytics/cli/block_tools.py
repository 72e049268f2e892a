"""`yolo blocks` and `yolo schema`: the registered rows of model YAMLs, and JSON schemas of the files that users write.

Nothing here imports torch before a tool runs.
"""

from __future__ import annotations

import json
import sys

import ultralytics
from ultralytics.cli.tool_calls import ToolCall
from ultralytics.utils.log import LOGGER, write_text


def blocks(call: ToolCall) -> None:
    """Print all rows as a table, or each named one with its constructor, cost and an example."""
    write_text(sys.stdout, ultralytics.blocks(call.files, call.own.get("format", "text"), call.own.get("modules")))


def schema(call: ToolCall) -> None:
    """Print the JSON schema of a kind of file, or write it to `out`."""
    out = call.own.get("out")
    made = ultralytics.schema(call.own.get("kind", "model"), call.own.get("modules"), out)
    if out is None:
        write_text(sys.stdout, json.dumps(made, indent=1) + "\n")
    else:
        LOGGER.info(f"{out} written; docs/schema.md says how editors use it")
