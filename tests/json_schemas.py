"""Validators of JSON schemas, which must be schemas of draft 2020-12 themselves."""

from __future__ import annotations

from typing import Any

import jsonschema


def validator_of(schema: dict[str, Any]) -> Any:
    """Return a validator; SchemaError where the schema is not one."""
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)
