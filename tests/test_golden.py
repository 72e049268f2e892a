"""Every golden case: blocks, decoder, SHSA and SHViT, whole models, matcher, losses, denoising, metrics.

Two cases record a defect of the reference that this project does not share; `test_deliberate_difference` holds that
ours differs there, and the rule itself is tested in `tests/nn/modules/test_head.py` and
`tests/models/utils/test_denoising.py`.
"""

import pytest
import torch

from tests.golden.comparison import check, load_cases

CASES = load_cases()
# Query selection never picks an invalid anchor; denoising boxes are logits for every noise scale.
DELIBERATE = {"rtdetr_eval_invalid", "rtdetr_train_dn"}


@pytest.fixture(autouse=True)
def _reset_seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("case", [c for c in CASES if c["id"] not in DELIBERATE], ids=lambda c: c["id"])
def test_golden(case):
    assert check(case) == []


@pytest.mark.parametrize("case", [c for c in CASES if c["id"] in DELIBERATE], ids=lambda c: c["id"])
def test_deliberate_difference(case):
    errors = check(case)
    assert errors, "this case records a defect; passing it means that the defect is back"
    assert not any("state dict" in e for e in errors)
