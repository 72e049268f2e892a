"""Facts of registered rows, and the page that is written from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import ultralytics.nn.tasks  # noqa: F401  registers every block
from ultralytics.nn.build.builder import plan_model
from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.nn.profile.block_facts import BlockFacts, block_facts, markdown_page
from ultralytics.nn.registry import REGISTRY, register

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_is_what_the_code_writes() -> None:
    assert (DOCS / "blocks.md").read_text(encoding="utf-8") == markdown_page()


@pytest.mark.parametrize(
    ("name", "params", "gflops"),
    [
        ("Conv", 66_048, 256 * 256 * 1600 * 2 / 1e9),
        ("DySample", 8_224, None),
        ("Concat", 0, 0.0),
        ("RFAConv", 617_984, None),
    ],
)
def test_costs(name: str, params: int, gflops: float | None) -> None:
    """Parameters against published counts; operations of a 1x1 convolution by hand."""
    properties = block_facts(name)
    assert properties.params == params
    assert gflops is None or properties.gflops == pytest.approx(gflops)


@pytest.mark.parametrize("name", ["Conv", "CSP", "EMA", "C2f_Faster", "AIFI"])
def test_examples_build(name: str) -> None:
    properties = block_facts(name)
    assert properties.example().startswith(f"- [-1, 1, {name}, ")
    rows = [[-1, 1, "Conv", [256, 3, 16]], [-1, 1, name, list(properties.args or ())]]
    plan = plan_model(load_model_yaml({"nc": 2, "backbone": rows[:1], "head": rows[1:]}))[1]
    assert sum(p.numel() for p in plan.construct().parameters()) == properties.params


def test_a_users_block_has_its_facts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "_entries", dict(REGISTRY._entries))

    @register
    class Scale(nn.Module):
        """Multiply by one number."""

        def __init__(self, c1: int) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return self.factor * x

    properties = block_facts("Scale")
    assert isinstance(properties, BlockFacts)
    assert (properties.purpose, properties.params, properties.gflops) == ("Multiply by one number.", 1, 0.0)


def test_heads_and_unknown_names() -> None:
    assert block_facts("RTDETRDecoder").params is None
    with pytest.raises(KeyError):
        block_facts("Nothing")


@pytest.mark.parametrize(("name", "identity"), [("SHSA", True), ("Faster_Block", True), ("Faster_Block_EMA", False)])
def test_only_a_block_that_does_it_starts_as_the_identity(name: str, identity: bool) -> None:
    """All three have the method; with an attention behind its MLP the block refuses."""
    assert block_facts(name).identity is identity
