"""Products of blocks, by torch and by oneDNN, against products in float64."""

import pytest
import torch

from ultralytics.nn.modules import attention, products
from ultralytics.nn.modules.attention import attend_in_blocks, attend_plain
from ultralytics.nn.modules.products import PackedProducts, Products, products_for
from ultralytics.utils.torch_utils import has_onednn_operators

onednn = pytest.mark.skipif(not has_onednn_operators(), reason="needs an x86 CPU and torch with oneDNN")
BOTH = pytest.mark.parametrize("kind", [Products, pytest.param(PackedProducts, marks=onednn)])


@BOTH
@pytest.mark.parametrize("room", [None, 0])
@pytest.mark.parametrize(("rows", "c", "d"), [(8, 5, 3), (7, 16, 1), (1, 33, 20), (6, 1, 4)])
def test_products_with_a_matrix_and_with_its_transpose(kind, room, rows, c, d):
    torch.manual_seed(0)
    x, back, matrix = torch.randn(rows, d), torch.randn(rows, c), torch.randn(c, d)
    by = kind(x)
    got = by.product(x, by.factor(matrix), room)
    torch.testing.assert_close(got, (x.double() @ matrix.double().t()).float())
    torch.testing.assert_close(by.product(back, by.factor(matrix.t())), (back.double() @ matrix.double()).float())


@BOTH
@pytest.mark.parametrize(("c", "d"), [(5, 3), (1, 4), (40, 16)])
def test_sums_of_products(kind, c, d):
    torch.manual_seed(0)
    blocks = [(torch.randn(rows, c), torch.randn(rows, d)) for rows in (6, 6, 1)]
    sums = kind(blocks[0][0]).sums(torch.empty(c, d))
    for a, b in blocks:
        sums.add(a, b)
    torch.testing.assert_close(sums.total(), sum(a.double().t() @ b.double() for a, b in blocks).float())


def test_sums_for_bfloat16_are_rounded_once():
    one = torch.ones(1, 1, dtype=torch.bfloat16)
    sums = Products(one).sums(one)
    for _ in range(1000):  # in bfloat16 itself 256 + 1 is 256
        sums.add(one, one)
    assert sums.total().dtype is torch.bfloat16 and float(sums.total()) == 1000


def test_a_room_is_used_again_for_smaller_blocks_and_grows_for_larger():
    by, matrix = Products(torch.empty(0)), torch.eye(3)
    first = by.product(torch.ones(4, 3), by.factor(matrix), 0)
    second = by.product(torch.zeros(2, 3), by.factor(matrix), 0)
    assert first.data_ptr() == second.data_ptr() and bool((first[:2] == 0).all())
    assert by.product(torch.ones(4, 3), by.factor(matrix), 1).data_ptr() != first.data_ptr()
    larger = by.product(torch.full((9, 3), 2.0), by.factor(matrix), 0)
    assert torch.equal(larger, torch.full((9, 3), 2.0))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_blocks_are_split_among_threads_where_they_can_be(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    x, matrix = torch.randn(6, 4), torch.randn(5, 4)
    for part in (x, x[:5], x[:1]):
        by = Products(x)
        torch.testing.assert_close(by.product(part, by.factor(matrix), 0), part @ matrix.t())


@pytest.mark.parametrize(
    ("n", "dtype", "operators", "kind"),
    [
        (9, torch.float32, True, PackedProducts),
        (8, torch.float32, True, Products),
        (9, torch.float32, False, Products),
        (9, torch.float64, True, Products),
        (9, torch.bfloat16, True, Products),
    ],
)
def test_the_choice(monkeypatch, n, dtype, operators, kind):
    monkeypatch.setattr(products, "MANY", 9)
    monkeypatch.setattr(products, "has_onednn_operators", lambda: operators)
    assert type(products_for(torch.empty(2, n, 4, dtype=dtype))) is kind


@onednn
@pytest.mark.parametrize("block", [45, 45 * 6, 45 * 100])
def test_attention_and_its_gradients_by_onednn(monkeypatch, block):
    monkeypatch.setattr(products, "MANY", 1)
    monkeypatch.setattr(attention, "BLOCK", block)
    torch.manual_seed(0)
    inputs = [torch.randn(2, 45, d, requires_grad=True) for d in (16, 16, 24)]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    found, wanted = attend_in_blocks(*inputs, 0.25), attend_plain(*exact, 0.25)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)
    grads = (torch.autograd.grad(y.square().sum(), leaves) for y, leaves in ((found, inputs), (wanted, exact)))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)
