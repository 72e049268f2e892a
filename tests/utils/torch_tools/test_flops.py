from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.torch_tools.flops import count_flops, model_flops
from ultralytics.utils.torch_utils import get_flops

PARSE = json.loads((Path(__file__).parents[2] / "golden" / "parse.json").read_text())["models"]
STOCK = {m["cfg"]: m for m in PARSE if isinstance(m["cfg"], str)}


class Attend(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)


class Product(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ b


class Sample(nn.Module):
    def forward(self, x: Tensor, grid: Tensor) -> Tensor:
        return F.grid_sample(x, grid, align_corners=False)


def mha(dim: int, n: int) -> int:
    """Three projections in, attention, one out; two per multiply-add."""
    return 2 * (4 * n * dim * dim + 2 * n * n * dim)


CASES = {
    "nothing": (nn.ReLU(), [(1, 3, 4, 4)], 0),
    "conv": (nn.Conv2d(3, 8, 3, padding=1), [(1, 3, 6, 5)], 2 * 3 * 8 * 9 * 30),
    "strided": (nn.Conv2d(3, 8, 3, stride=2, padding=1), [(1, 3, 6, 6)], 2 * 3 * 8 * 9 * 9),
    "depthwise": (nn.Conv2d(8, 8, 3, padding=1, groups=8), [(2, 8, 5, 5)], 2 * 8 * 9 * 50),
    "transposed": (nn.ConvTranspose2d(4, 6, 2, stride=2), [(1, 4, 3, 3)], 2 * 4 * 6 * 4 * 9),
    "linear": (nn.Linear(7, 5), [(2, 3, 7)], 2 * 6 * 35),
    "matmul": (Product(), [(2, 3, 4), (2, 4, 5)], 2 * 2 * 3 * 4 * 5),
    "attention": (Attend(), [(1, 2, 5, 8), (1, 2, 7, 8), (1, 2, 7, 8)], 2 * 2 * 5 * 7 * 16),
    "narrow queries": (Attend(), [(1, 1, 5, 4), (1, 1, 5, 4), (1, 1, 5, 12)], 2 * 5 * 5 * 16),
    "sampling": (Sample(), [(2, 6, 9, 9), (2, 4, 3, 2)], 2 * 6 * 12 * 8),
    "encoder layer": (
        nn.TransformerEncoderLayer(16, 4, 24, batch_first=True),
        [(1, 10, 16)],
        mha(16, 10) + 2 * 2 * 10 * 16 * 24,
    ),
}


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", CASES)
def test_counts_by_hand(name: str, device: str) -> None:
    module, shapes, want = CASES[name]
    inputs = [torch.zeros(s, device=device) for s in shapes]
    total, _ = count_flops(module.eval().to_empty(device=device), *inputs)
    assert total == want


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_multi_head_attention(device: str) -> None:
    class Self(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mha = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.mha(x, x, x, need_weights=False)[0]
            return out

    assert count_flops(Self().eval().to(device), torch.zeros(1, 10, 16, device=device))[0] == mha(16, 10)


def test_layers_add_up() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)))
    total, by_name = count_flops(model, torch.zeros(1, 3, 2, 2))
    assert total == by_name[""] == 96 + 128 + 64
    assert (by_name["0"], by_name["1"], by_name["1.1"]) == (96, 192, 64)


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model_flops(model, 8)
    assert model.training and all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.device.type == "cpu" and p.grad is None for p in model.parameters())


def test_a_model_that_needs_real_numbers_is_run_for_real() -> None:
    class Peek(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) if x.sum().item() == 0 else x

    assert model_flops(Peek(), (4, 8))[0] == 2 * 3 * 4 * 32


@pytest.mark.parametrize("cfg", ["rtdetr-hgnetv2-l.yaml", "rtdetr-resnet50.yaml"])
def test_stock_models_agree_with_the_golden_totals(cfg: str) -> None:
    """Within 2 %: the golden counts hold batch norms, ours attention and sampling."""
    model = RTDETRDetectionModel(cfg, verbose=False)
    assert get_flops(model, 640) == pytest.approx(STOCK[cfg]["gflops_640"], rel=0.02)
    model.fuse(verbose=False)
    assert get_flops(model, 640) == pytest.approx(STOCK[cfg]["fused"]["gflops_640"], rel=0.002)


def test_shsa_counts_its_mathematics_not_its_padding() -> None:
    from ultralytics.nn.modules import SHSA

    n, d, qk, p = 40 * 40, 64, 16, 24
    want = 2 * n * p * (2 * qk + p) + 2 * n * n * (qk + p) + 2 * n * d * d
    assert model_flops(nn.Sequential(nn.Identity(), SHSA(d, qk, p)), 40, ch=d)[0] == want
