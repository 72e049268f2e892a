"""Golden cases of the YOLO family: blocks, heads, whole models, assigner, losses, NMS, optimizer, transfer, YAMLs.

Some cases record what this project does otherwise; `test_deliberate_difference` holds that ours differs there, and the
rule itself is tested beside the code:

* RepVGGDW folded: the reference's numbers hold the batch norm of the 7x7 branch folded in twice, so they differ from
  its own unfolded output; ours are equal (`tests/nn/modules/yolo/test_blocks.py`).
* A fused network has no batch norm left, not even that of BottleneckCSP (`tinycb_fused`: same output, fewer tensors).
* Fused weights are refused for an unfused network; the reference takes kernels without their biases.
"""

import pytest
import torch

from tests.golden.yolo.runner import check, load_cases

CASES = load_cases()
DELIBERATE = {"repvggdw_fused", "cib_lk_fused", "c2fcib_fused", "tinycb_fused", "transfer_fused"}


@pytest.fixture(autouse=True)
def _reset_seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("case", [c for c in CASES if c["id"] not in DELIBERATE], ids=lambda c: c["id"])
def test_golden(case):
    assert check(case) == []


RECORDED = [c for c in CASES if c["id"] in DELIBERATE - {"transfer_fused"}]


@pytest.mark.parametrize("case", RECORDED, ids=lambda c: c["id"])
def test_deliberate_difference(case):
    errors = check(case)
    assert errors, "this case records a defect; passing it means that the defect is back"
    assert not any("state dict" in e for e in errors)
