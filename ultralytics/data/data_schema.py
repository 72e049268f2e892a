"""The JSON schema of data YAMLs, written from the keys that `check_det_dataset` reads."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ultralytics.cfg.kinds import any_case
from ultralytics.data.demo import GENERATORS
from ultralytics.data.formats.detect import LABEL_FORMATS
from ultralytics.data.utils import KEY_TYPES, MAX_IMAGE_CHANNELS, MAX_LISTED_CLASSES, SPLITS
from ultralytics.utils.config.json_schema import JSONSchema, Part, schema_file

_JSON_TYPES: Mapping[type, str] = MappingProxyType({str: "string", int: "integer", list: "array", dict: "object"})
_NAME: JSONSchema = {"type": ["string", "number", "boolean"]}
_MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "path": "folder of the data set, absolute or relative to this file or the setting datasets_dir",
        "names": "class names: a list, or a mapping of ids 0, 1, 2, ...",
        "channels": "channels of the images",
        "annotations": "COCO files: a path, or split: path",
        **{split: f"images of the split {split}: a folder, glob or list file, or several" for split in SPLITS},
    }
)


def data_schema() -> JSONSchema:
    """The schema of a data YAML. Keys of other programs are allowed: they are not read."""
    return schema_file(
        "Data YAML",
        "Where the images of a data set are, and what its classes are called.",
        {
            "type": "object",
            "properties": {**{key: _typed(key) for key in KEY_TYPES}, **_special_keys()},
            "required": ["train"],
            "allOf": [
                {"anyOf": [{"required": ["val"]}, {"required": ["validation"]}]},
                {"anyOf": [{"required": [key]} for key in ("names", "nc", "annotations")]},
            ],
        },
    )


def _typed(key: str) -> JSONSchema:
    """A key by its types; lists are lists of paths."""
    types = [_JSON_TYPES[t] for t in KEY_TYPES[key]]
    paths: JSONSchema = {"items": {"type": "string"}} if "array" in types else {}
    return {"type": [*types, "null"], **paths, **({"description": _MEANINGS[key]} if key in _MEANINGS else {})}


def _special_keys() -> dict[str, Part]:
    """Keys with rules of their own."""
    ids = {"propertyNames": {"pattern": r"^\d+$"}, "additionalProperties": _NAME}
    some = {"minItems": 1, "minProperties": 1}
    needed = {split: {**_typed(split), "type": ["string", "array"], "minLength": 1} for split in ("train", "val")}
    archive = {"url": {"type": "string"}, "sha256": {"type": ["string", "null"]}}
    code: JSONSchema = {"type": ["string", "null"], "description": f"{' or '.join(GENERATORS)}; code is never run"}
    return {
        **needed,
        "validation": {**_typed("val"), "deprecated": True},
        "names": {**_typed("names"), **ids, "type": ["array", "object"], "items": _NAME, **some},
        "nc": {"type": ["integer", "string"], "pattern": r"^\d+$", "minimum": 1, "maximum": MAX_LISTED_CLASSES},
        "channels": {**_typed("channels"), "minimum": 1, "maximum": MAX_IMAGE_CHANNELS},
        "format": {"type": ["string", "null"], "pattern": f"^{any_case(*LABEL_FORMATS)}$"},
        "download": {
            "if": {"type": "object"},
            "then": {"properties": archive, "required": ["url"]},
            "else": code,
        },
    }
