"""The model YAML's schema: every row with its arguments, and the top-level keys.

Rows of user files that were registered before are part of it. What only a build can know (channels, sizes, a `from`
that points forward) is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from ultralytics.cfg.schema import TASKS
from ultralytics.nn.argument_names import other_names
from ultralytics.nn.build.names import library_names
from ultralytics.nn.build.row_forms import RowArgument, RowForm, constructor_arguments, row_forms
from ultralytics.nn.build.row_names import ROW_NAME
from ultralytics.nn.build.spec import MAX_CLASSES, TOP_KEYS, YAML_PARTS
from ultralytics.nn.dfine import CriterionOptions
from ultralytics.nn.registry import REGISTRY, Entry
from ultralytics.nn.schema.value_schemas import MODULE_TEXT, keyword_pattern, value_schema
from ultralytics.utils.config.json_schema import JSONSchema, Part, closed_object, schema_file

__all__ = ("model_schema",)

_NAMED = f"^{ROW_NAME.pattern}$"
_INDEX: JSONSchema = {
    "type": ["integer", "string"],
    "pattern": _NAMED,
    "description": "a layer: -1 the one above, 4 layer 4, or the name of a row",
}
_INDICES: JSONSchema = {"type": "array", "items": _INDEX, "minItems": 1}
_POSITIVE: JSONSchema = {"type": "number", "exclusiveMinimum": 0}
_COUNT: JSONSchema = {"type": "integer", "minimum": 1}
_KEYWORD: JSONSchema = {"type": "string", "pattern": r"^[A-Za-z_]\w*=(?!=)"}
_TIMM_NAME = r"[a-z][a-z0-9_]*[0-9_][a-z0-9_.]*"
"""Form of timm's model names; variables that name a module have it too."""


def model_schema() -> JSONSchema:
    """The schema of a model YAML, with every registered row."""
    names = list(REGISTRY)
    entries = {name: entry for name in names if (entry := REGISTRY.get(name)) is not None}
    body = closed_object(
        _top_keys(),
        "not a key of a model YAML",
        required=["nc", *YAML_PARTS],
        **{"$defs": {"row": _row(entries), "args": {name: _arguments(e) for name, e in entries.items()}}},
    )
    # a key of the file's own with a plain value is a variable, which rows may use
    body["additionalProperties"] = {
        "type": ["string", "number", "boolean"],
        "errorMessage": "not a key of a model YAML; a variable for rows is a string or a number",
    }
    return schema_file("Model YAML", "Layers of a network: rows [from, repeats, module, args].", body)


def _top_keys() -> dict[str, Part]:
    part: JSONSchema = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/row"}}
    activation = {"type": "string", "pattern": f"^{MODULE_TEXT}$", "description": "such as nn.ReLU(); default SiLU"}
    known: dict[str, Part] = {
        "nc": {**_COUNT, "maximum": MAX_CLASSES, "description": "number of classes"},
        "scales": {
            "type": "object",
            "description": "letter: [depth, width, max_channels]",
            "additionalProperties": {"type": "array", "items": _POSITIVE, "minItems": 1, "maxItems": 3},
        },
        "scale": {"type": "string", "description": "the letter of `scales` to build"},
        "depth_multiple": _POSITIVE,
        "width_multiple": _POSITIVE,
        "activation": activation,
        "backbone": part,
        "head": part,
        "ch": _COUNT,
        "channels": _COUNT,
        "task": {"enum": list(TASKS)},
        "criterion": _criterion(),
        "reg_max": _COUNT,
        "end2end": {"type": "boolean"},
    }
    return {**dict.fromkeys(sorted(TOP_KEYS), True), **known}


def _criterion() -> JSONSchema:
    kinds: dict[str, Part] = {"loss": {"enum": ["vfl", "mal"]}, "change_epoch": {"type": ["integer", "null"]}}
    options = {name: kinds.get(name, {"type": "boolean"}) for name in CriterionOptions._fields}
    return closed_object(options, f"criterion has {', '.join(options)}")


def _row(entries: Mapping[str, Entry]) -> JSONSchema:
    """One row: its form, the known names, and for each name its `from`, repeats and arguments."""
    names = [*entries, *library_names()]
    purposes = [entry.purpose for entry in entries.values()]
    known = {"enum": names, "markdownEnumDescriptions": purposes + [""] * (len(names) - len(entries))}
    other = {"type": "string", "pattern": f"^({_TIMM_NAME}|torch\\.nn\\.[A-Z]\\w*)$"}
    return {
        "type": "array",
        "minItems": 4,
        "maxItems": 5,
        "description": "[from, repeats, module, args], and {name: ...} for a row with a name",
        "prefixItems": [
            {"if": {"type": "array"}, "then": _INDICES, "else": _INDEX},
            {**_COUNT, "description": "how often the module is chained or, in cross-stage blocks, its inner block"},
            {"if": {"pattern": other["pattern"]}, "then": other, "else": known, "title": "module"},
            {"type": "array", "title": "arguments"},
            closed_object({"name": {"type": "string", "pattern": _NAMED}}, "{name: p3}", required=["name"]),
        ],
        "allOf": [_group(letter, entries) for letter in sorted({name[0] for name in entries})],
    }


def _group(letter: str, entries: Mapping[str, Entry]) -> JSONSchema:
    """The rules of the modules with one initial; a row is compared with these alone."""
    return {
        "if": {"prefixItems": [True, True, {"type": "string", "pattern": f"^{letter}"}], "minItems": 3},
        "then": {"allOf": [_rule(name, entry) for name, entry in entries.items() if name[0] == letter]},
    }


def _rule(name: str, entry: Entry) -> JSONSchema:
    """What holds for the rows of one module."""
    takes_list = entry.multi_input or entry.is_head
    source: Part = _INDICES if takes_list else _INDEX if entry.rule is not None else True
    repeats: Part = {"const": 1} if takes_list else True
    return {
        "if": {"prefixItems": [True, True, {"const": name}], "minItems": 3},
        "then": {"prefixItems": [source, repeats, True, {"$ref": f"#/$defs/args/{name}"}]},
    }


def _arguments(entry: Entry) -> JSONSchema:
    """The arguments of a row, by place and by name."""
    forms = row_forms(entry)
    if not forms:
        return {"type": "array"}
    named = list(dict.fromkeys(argument for form in forms for part in form for argument in part))
    places = zip_longest(*(form.positional for form in forms))
    return {
        "type": "array",
        "description": " or ".join(map(str, forms)),
        "prefixItems": [_place([argument for argument in place if argument is not None]) for place in places],
        **({"items": _KEYWORD} if any(form.by_name for form in forms) else {}),
        "allOf": [{"items": {"if": _KEYWORD, "then": {"pattern": keyword_pattern(named, _further_names(entry))}}}],
        "minItems": min(map(_required, forms)),
        "maxItems": max(len(form.positional) + len(form.by_name) for form in forms),
    }


def _further_names(entry: Entry) -> dict[str, list[str]]:
    """The names other than its own under which a row may give each argument of a constructor."""
    known = [parameter.name for parameter in constructor_arguments(entry.cls)]
    return {name: others for name in known if (others := other_names(name, known))}


def _place(arguments: Sequence[RowArgument]) -> JSONSchema:
    """What may stand at one place of a row, if it is not an argument by name."""
    return {"if": _KEYWORD, "else": value_schema(arguments)}


def _required(form: RowForm) -> int:
    return sum(argument.required for argument in form.positional)
