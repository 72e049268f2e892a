"""Products of blocks, by torch and backend oneDNN, against products in float64."""

import pytest
import torch

from ultralytics.nn.modules import attention, matmul
from ultralytics.nn.modules.attention import attend_in_blocks, attend_plain
from ultralytics.nn.modules.matmul import MatmulBackend, OneDNNBackend, select_backend
from ultralytics.utils.torch_utils import has_onednn_operators, native_bf16

onednn = pytest.mark.skipif(not has_onednn_operators(), reason="needs an x86 CPU and torch with oneDNN")
BOTH = pytest.mark.parametrize("kind", [MatmulBackend, pytest.param(OneDNNBackend, marks=onednn)])


@BOTH
@pytest.mark.parametrize("workspace", [None, 0])
@pytest.mark.parametrize(("rows", "c", "d"), [(8, 5, 3), (7, 16, 1), (1, 33, 20), (6, 1, 4)])
def test_products_with_a_matrix_and_with_its_transpose(kind, workspace, rows, c, d):
    torch.manual_seed(0)
    x, back, matrix = torch.randn(rows, d), torch.randn(rows, c), torch.randn(c, d)
    backend = kind(x)
    got = backend.product(x, backend.factor(matrix), workspace)
    torch.testing.assert_close(got, (x.double() @ matrix.double().t()).float())
    torch.testing.assert_close(
        backend.product(back, backend.factor(matrix.t())), (back.double() @ matrix.double()).float()
    )


@BOTH
@pytest.mark.parametrize(("c", "d"), [(5, 3), (1, 4), (40, 16)])
def test_sums_of_products(kind, c, d):
    torch.manual_seed(0)
    blocks = [(torch.randn(rows, c), torch.randn(rows, d)) for rows in (6, 6, 1)]
    sums = kind(blocks[0][0]).accumulator(torch.empty(c, d))
    for a, b in blocks:
        sums.add(a, b)
    torch.testing.assert_close(sums.total(), sum(a.double().t() @ b.double() for a, b in blocks).float())


@BOTH
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize(("n", "p"), [(12, 7), (33, 16), (5, 1)])
def test_gradients_of_the_softmax(kind, dtype, tolerance, n, p):
    if kind is OneDNNBackend and dtype is torch.bfloat16 and not native_bf16("cpu"):
        pytest.skip("needs a CPU with bfloat16")
    torch.manual_seed(0)
    grads, values = torch.randn(n, p).to(dtype), torch.randn(n, p).to(dtype)
    scores = torch.randn(n, n, dtype=torch.float64).requires_grad_()
    out = scores.softmax(1) @ values.double()
    out.backward(grads.double())
    mean = (grads.double() * out.detach()).sum(1, keepdim=True).float()
    gradient = kind(grads).score_gradient(grads, mean, values)
    for rows in (slice(0, n - 2), slice(n - 2, n)):
        got = gradient.compute(rows, scores.detach()[rows].softmax(1).to(dtype))
        torch.testing.assert_close(got.double(), scores.grad[rows], rtol=tolerance, atol=tolerance)


@onednn
@pytest.mark.skipif(not native_bf16("cpu"), reason="needs a CPU with bfloat16")
def test_the_mean_of_score_gradients_keeps_its_digits_in_bfloat16():
    one = torch.ones(1, 1, dtype=torch.bfloat16)
    mean = torch.tensor([[1.0 - 2**-12]])  # 1 in bfloat16, with a gradient of 0
    assert float(OneDNNBackend(one).score_gradient(one, mean, one).compute(slice(0, 1), one)) == 2**-12


def test_sums_for_bfloat16_are_rounded_once():
    one = torch.ones(1, 1, dtype=torch.bfloat16)
    sums = MatmulBackend(one).accumulator(one)
    for _ in range(1000):  # in bfloat16 itself 256 + 1 is 256
        sums.add(one, one)
    assert sums.total().dtype is torch.bfloat16 and float(sums.total()) == 1000


def test_a_workspace_is_reused_for_smaller_blocks_and_grows_for_larger():
    backend, matrix = MatmulBackend(torch.empty(0)), torch.eye(3)
    first = backend.product(torch.ones(4, 3), backend.factor(matrix), 0)
    second = backend.product(torch.zeros(2, 3), backend.factor(matrix), 0)
    assert first.data_ptr() == second.data_ptr() and bool((first[:2] == 0).all())
    assert backend.product(torch.ones(4, 3), backend.factor(matrix), 1).data_ptr() != first.data_ptr()
    larger = backend.product(torch.full((9, 3), 2.0), backend.factor(matrix), 0)
    assert torch.equal(larger, torch.full((9, 3), 2.0))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_blocks_are_split_among_threads_where_they_can_be(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    x, matrix = torch.randn(6, 4), torch.randn(5, 4)
    for part in (x, x[:5], x[:1]):
        backend = MatmulBackend(x)
        torch.testing.assert_close(backend.product(part, backend.factor(matrix), 0), part @ matrix.t())


@pytest.mark.parametrize(
    ("n", "dtype", "operators", "native", "gradient", "kind"),
    [
        (9, torch.float32, True, False, False, OneDNNBackend),
        (9, torch.float32, True, False, True, OneDNNBackend),
        (8, torch.float32, True, False, True, MatmulBackend),
        (9, torch.float32, False, False, False, MatmulBackend),
        (9, torch.float64, True, True, True, MatmulBackend),
        (9, torch.bfloat16, True, True, False, MatmulBackend),
        (9, torch.bfloat16, True, True, True, OneDNNBackend),
        (9, torch.bfloat16, True, False, True, MatmulBackend),
        (8, torch.bfloat16, True, True, True, MatmulBackend),
    ],
)
def test_the_choice(monkeypatch, n, dtype, operators, native, gradient, kind):
    monkeypatch.setattr(matmul, "MIN_TOKENS", 9)
    monkeypatch.setattr(matmul, "has_onednn_operators", lambda: operators)
    monkeypatch.setattr(matmul, "native_bf16", lambda device: native)
    assert type(select_backend(torch.empty(2, n, 4, dtype=dtype), gradient)) is kind


@onednn
@pytest.mark.parametrize("block", [45, 45 * 6, 45 * 100])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_attention_and_its_gradients_by_onednn(monkeypatch, block, dtype, tolerance):
    if dtype is torch.bfloat16 and not native_bf16("cpu"):
        pytest.skip("needs a CPU with bfloat16")
    monkeypatch.setattr(matmul, "MIN_TOKENS", 1)
    monkeypatch.setattr(attention, "BLOCK", block)
    torch.manual_seed(0)
    inputs = [torch.randn(2, 45, d).to(dtype).requires_grad_() for d in (16, 16, 24)]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    found, wanted = attend_in_blocks(*inputs, 0.25), attend_plain(*exact, 0.25)
    torch.testing.assert_close(found.double(), wanted, rtol=tolerance, atol=tolerance)
    pairs = ((found, inputs), (wanted, exact))
    grads = [torch.autograd.grad(y, leaves, torch.cos(wanted).to(y)) for y, leaves in pairs]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=tolerance * float(b.abs().max()))
