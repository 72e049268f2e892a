"""Golden cases of RT-DETRv2, D-FINE, DEIM and DEIMv2: blocks, heads, encoders, losses, plans.

Cases that record a fault of the projects, or a choice of theirs that ours does not take, are listed with the reason:
ours must differ there.
"""

from __future__ import annotations

import pytest

from tests.golden.detr_runner import cases, check

DELIBERATE = {
    "sampling_discrete_wide_defect": "the projects clamp columns to the number of rows",
    "pos_embed_4x7": "the projects lay positions out by columns, tokens by rows",
    "loss_deim_no_union": "without the union the projects give all layers the edge targets of the last layer's pairs",
    "loss_dfine_crowded": "ties of the union depend on an unstable sort; ours take the lowest target",
}


@pytest.mark.parametrize("name", [n for n in cases() if n not in DELIBERATE])
def test_case(name: str) -> None:
    assert check(name) == []


@pytest.mark.parametrize("name", DELIBERATE)
def test_deliberate_difference(name: str) -> None:
    errors = check(name)
    assert errors and not any("state dict" in e for e in errors)
