"""The JSON schemas of the files that a user writes, for editors: model YAMLs, data YAMLs, arguments."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from ultralytics.cfg.arguments_schema import arguments_schema
from ultralytics.data.data_schema import data_schema
from ultralytics.nn.schema.model_schema import model_schema
from ultralytics.utils.config.json_schema import JSONSchema
from ultralytics.utils.errors import ConfigError
from ultralytics.utils.files import atomic_write
from ultralytics.utils.user_modules import Files, load_user_modules

SCHEMAS: Mapping[str, Callable[[], JSONSchema]] = MappingProxyType(
    {"model": model_schema, "data": data_schema, "args": arguments_schema}
)
"""Kinds of files."""


def json_schema(kind: str = "model", modules: Files | None = None, out: str | Path | None = None) -> JSONSchema:
    """Return the JSON schema (draft 2020-12) of a kind of file: `model`, `data` or `args`; write it to `out` if given.

    Rows of the user's `modules` are part of the schema of model YAMLs.

    Raises:
        ConfigError: another kind.
    """
    if kind not in SCHEMAS:
        raise ConfigError(f"kind={kind!r} is not known; choose one of {', '.join(SCHEMAS)}")
    load_user_modules(modules)
    made = SCHEMAS[kind]()
    if out is not None:
        with atomic_write(Path(out)) as f:
            f.write(json.dumps(made, indent=1) + "\n")
    return made
