"""Parts of the JSON schemas (draft 2020-12) that `yolo schema` writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

JSONSchema: TypeAlias = dict[str, Any]
Part: TypeAlias = JSONSchema | bool
"""A schema inside of a schema; true allows everything."""

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schema_file(title: str, description: str, body: Mapping[str, Any]) -> JSONSchema:
    """A schema that stands in a file of its own."""
    return {"$schema": DRAFT, "title": title, "description": description, **body}


def closed_object(properties: Mapping[str, Part], hint: str, **more: Any) -> JSONSchema:
    """An object with these keys and no others; another key is an error at that key, which shows the hint.

    `additionalProperties: false` would be an error of the whole object.
    """
    refused = {"not": {}, "errorMessage": hint}
    return {"type": "object", "properties": dict(properties), "additionalProperties": refused, **more}


def nullable(part: JSONSchema) -> JSONSchema:
    """The same values, or null."""
    if isinstance(part.get("type"), str) and not {"enum", "const"} & set(part):
        return {**part, "type": [part["type"], "null"]}
    if isinstance(part.get("type"), list):
        return {**part, "type": [*part["type"], "null"]}
    return {"anyOf": [part, {"type": "null"}]}
