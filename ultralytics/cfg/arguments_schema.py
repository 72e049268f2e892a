"""The JSON schema of files of arguments (`cfg=my.yaml`, `args.yaml`), written from the table."""

from __future__ import annotations

from ultralytics.cfg.renames import OLD_NAMES
from ultralytics.cfg.schema import EXTRA_KEYS, KEYS
from ultralytics.utils.config.json_schema import JSONSchema, Part, closed_object, schema_file


def arguments_schema() -> JSONSchema:
    """The schema of a file of arguments: every argument with its type, bounds and default, and no other.

    Names of older versions are allowed and marked as deprecated. The scale of a model may be written `scale: n`.
    """
    rows = {**EXTRA_KEYS, **KEYS}
    old: dict[str, Part] = {name: {"deprecated": True} for name in sorted(OLD_NAMES - set(rows))}
    properties: dict[str, Part] = {**old, **{name: key.json for name, key in rows.items()}}
    scale = {**KEYS["scale"].json, "type": ["number", "string"]}
    text = "One argument a line, as `yolo cfg` lists them."
    body = closed_object({**properties, "scale": scale}, "not an argument; `yolo cfg` lists all")
    return schema_file("Arguments of a run", text, body)
