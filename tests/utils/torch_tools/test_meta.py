"""The shortcut gives the shape and dtype that torch's own operator gives."""

import pytest
import torch
import torch.nn.functional as F

from ultralytics.utils.torch_tools.meta import MetaShortcuts


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("sizes", [(0, 4, 5, 6, 2, 3), (2, 4, 5, 6, 7, 3)], ids=str)
def test_sampling(sizes, dtype):
    b, c, h, w, out_h, out_w = sizes
    x = torch.empty(b, c, h, w, device="meta", dtype=dtype)
    grid = torch.empty(b, out_h, out_w, 2, device="meta", dtype=dtype)
    want = F.grid_sample(x, grid, align_corners=False)
    with MetaShortcuts():
        got = F.grid_sample(x, grid, align_corners=False)
    assert (got.shape, got.dtype, got.device) == (want.shape, want.dtype, want.device)


def test_values_are_left_alone():
    x, grid = torch.rand(1, 2, 4, 4), torch.rand(1, 3, 3, 2)
    want = F.grid_sample(x, grid, align_corners=False)
    with MetaShortcuts():
        assert torch.equal(F.grid_sample(x, grid, align_corners=False), want)
