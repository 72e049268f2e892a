"""The schema of model YAMLs: all of ours are valid, mistakes are found where they are, rows agree with the builder."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import torch
import yaml
from torch import Tensor, nn

import ultralytics.nn.tasks  # noqa: F401  registers every block
from tests.contract.source import ROOT
from ultralytics.nn.build.row_forms import constructor_arguments, row_forms
from ultralytics.nn.registry import REGISTRY, Plan, RowContext, register
from ultralytics.nn.schema.model_schema import model_schema

FILES = [*sorted((ROOT / "cfg" / "models").rglob("*.yaml")), *sorted((ROOT.parent / "benchmarks").glob("*-tiny*.yaml"))]
GOOD: dict[str, Any] = {
    "nc": 2,
    "scales": {"n": [0.5, 0.25, 1024]},
    "node_mode": "RepC3",
    "head_channel": 256,
    "backbone": [[-1, 1, "Conv", [64, 3, 2]], [-1, 3, "HGBlock", [48, 128, 3]], [-1, 1, "nn.Upsample", ["None", 2]]],
    "head": [
        [-1, 1, "Conv", ["head_channel", 1, 1, "None", 1, 1, "False"]],
        [-1, 3, "node_mode", ["head_channel"], {"name": "p4"}],
        [-1, 1, "CSP", [256, "block=Faster", "mlp=CGLU", "n=2"]],
        [[-1, "p4"], 1, "Concat", [1]],
        [[4, 5], 1, "RTDETRDecoder", ["nc", 256, 300]],
    ],
}


def plain(value: object) -> Any:
    """What JSON has: keys that are strings, lists in the place of tuples."""
    return json.loads(json.dumps(value))


def pointers(document: object, schema: Any) -> list[str]:
    """JSON pointers of the places at which a document is wrong."""
    errors = jsonschema.Draft202012Validator(schema).iter_errors(plain(document))
    return sorted({"/" + "/".join(map(str, e.absolute_path)) for e in errors})


def edited(path: str, value: object) -> Any:
    """GOOD with the value at a pointer replaced, or added."""
    document = plain(GOOD)
    *parents, last = [int(p) if p.isdigit() else p for p in path.strip("/").split("/")]
    target = document
    for key in parents:
        target = target[key]
    target[last] = value
    return document


@pytest.fixture(scope="module")
def schema() -> Any:
    made = model_schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return made


def test_all_our_yamls_are_valid(schema: Any) -> None:
    """Top-level keys of each file; each row once, since most files have the same ones."""
    rows: dict[str, Any] = {}
    assert len(FILES) > 80
    for file in FILES:
        document = plain(yaml.safe_load(file.read_text(encoding="utf-8")))
        parts = {part: document[part] for part in ("backbone", "head")}
        rows |= {json.dumps(row): row for part in parts.values() for row in part}
        assert pointers({**document, **{part: part_rows[:1] for part, part_rows in parts.items()}}, schema) == [], file
    all_rows = {"nc": 1, "backbone": list(rows.values()), "head": [[-1, 1, "Conv", [8]]]}
    wrong = pointers(all_rows, schema)
    assert wrong == [], [all_rows["backbone"][int(p.split("/")[2])] for p in wrong]


def test_a_file_with_variables_and_names_is_valid(schema: Any) -> None:
    assert pointers(GOOD, schema) == []


@pytest.mark.parametrize(
    ("path", "value", "at"),
    [
        ("/backbone/0/2", "Cnov", "/backbone/0/2"),  # misspelt row
        ("/backbone/0/2", "conv", "/backbone/0/2"),
        ("/backbone/0/2", "nn.Upsampel", "/backbone/0/2"),
        ("/backbone/0/3/1", "three", "/backbone/0/3/1"),  # wrong type of an argument
        ("/backbone/0/3/0", 0, "/backbone/0/3/0"),
        ("/backbone/0/3/0", True, "/backbone/0/3/0"),
        ("/backbone/1/3", [48], "/backbone/1/3"),  # too few
        ("/backbone/0/3", [64, 3, 2, "None", 1, 1, True, 9], "/backbone/0/3"),  # too many
        ("/head/2/3/1", "blok=Faster", "/head/2/3/1"),  # a name that the row does not have
        ("/head/2/3/3", "n=two", "/head/2/3/3"),
        ("/scale", {"n": [0.33, 0.25, 1024]}, "/scale"),  # `scales` is meant
        ("/scales", {"n": [0.33, -1]}, "/scales/n/1"),
        ("/anchors", [[10, 13]], "/anchors"),
        ("/nc", -1, "/nc"),
        ("/activation", "ReLU", "/activation"),
        ("/backbone/0/0", "0, 1", "/backbone/0/0"),  # wrong `from`
        ("/backbone/0/0", 0.5, "/backbone/0/0"),
        ("/head/1/4", {"name": "p 4"}, "/head/1/4/name"),
        ("/head/3/0", [0, "1 2"], "/head/3/0/1"),
        ("/head/0/0", [0, 1], "/head/0/0"),  # Conv takes one map
        ("/head/3/0", -1, "/head/3/0"),  # Concat takes a list
        ("/head/3/1", 2, "/head/3/1"),
        ("/backbone/0/1", 0, "/backbone/0/1"),
        ("/backbone/0", [-1, 1, "Conv"], "/backbone/0"),
        ("/criterion", {"los": "mal"}, "/criterion/los"),
    ],
)
def test_a_mistake_is_found_at_its_place(schema: Any, path: str, value: object, at: str) -> None:
    assert pointers(edited(path, value), schema) == [at]


def test_missing_parts(schema: Any) -> None:
    assert pointers({"nc": 1, "backbone": GOOD["backbone"]}, schema) == ["/"]
    assert pointers({**GOOD, "backbone": []}, schema) == ["/backbone"]


def test_a_users_block_is_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "_entries", dict(REGISTRY._entries))
    row = [-1, 1, "Gate", ["channels"]]
    assert pointers(edited("/head/1", row), model_schema()) == ["/head/1/2"]

    @register
    class Gate(nn.Module):
        """Scale by a gate."""

        def __init__(self, c1: int, reduction: int = 4, bias: bool = False) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(c1 // reduction))

        def forward(self, x: Tensor) -> Tensor:
            return x

    @register(lambda row: Plan((8, *row.args), 8))
    class Free(nn.Module):
        """A rule of its own that says nothing about the row."""

    made = model_schema()
    assert pointers(edited("/head/1", row), made) == ["/head/1/3/0"]
    for good in ([2, True], ["bias=True"], []):
        assert pointers(edited("/head/1", [-1, 1, "Gate", good]), made) == []
    assert pointers(edited("/head/1", [-1, 1, "Free", ["a", {}]]), made) == []


PROBED = [name for name in REGISTRY if (entry := REGISTRY.get(name)) is not None and entry.row]
INPUTS = {"c1": 256, "c2s": [64, 128], "block": "BasicBlock", "model": "resnet18", "length": 3}


@pytest.mark.parametrize("name", PROBED)
def test_stated_rows_are_what_the_rules_take(name: str) -> None:
    """Distinct values, given to the rule in each form, arrive at the constructor's parameters."""
    entry = REGISTRY.get(name)
    assert entry is not None and entry.rule is not None
    parameters = [argument.name for argument in constructor_arguments(entry.cls)]
    sources = 3 if name in {"ViTAdapter", "TorchVision", "Timm"} else 256
    count = 2 if name in {"CGAFusion", "CAFMFusion", "SBA"} else 3
    for form in row_forms(entry):
        values = [INPUTS.get(a.name, 264 + 8 * i) for i, a in enumerate(form.positional)]
        values = [a.type is bool or v if a.type in {bool, str} and a.name not in INPUTS else v
                  for a, v in zip(form.positional, values, strict=True)]  # fmt: skip
        plan = entry.rule(RowContext((sources,) * (count if entry.multi_input or entry.is_head else 1), tuple(values)))
        cls = REGISTRY.get(plan.block).cls if plan.block else entry.cls  # type: ignore[union-attr]
        got = dict(zip([a.name for a in constructor_arguments(cls)] or parameters, plan.args, strict=False))
        for argument, value in zip(form.positional, values, strict=True):
            assert argument.name not in got or argument.name == "c1" or got[argument.name] == value, argument
