"""MuSGD: equal to torch's SGD where it should be, orthogonal steps, groups of a network, state that survives."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ultralytics.optim import MuSGD, musgd_groups, orthogonalize
from ultralytics.utils.errors import ConfigError


@pytest.mark.parametrize("nesterov", [False, True])
def test_without_muon_it_is_sgd(nesterov: bool) -> None:
    torch.manual_seed(0)
    mine = nn.Parameter(torch.randn(4, 3))
    theirs = nn.Parameter(mine.detach().clone())
    args = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05, "nesterov": nesterov}
    a, b = MuSGD([mine], **args), torch.optim.SGD([theirs], **args)
    for _ in range(4):
        mine.grad = torch.randn(4, 3)
        theirs.grad = mine.grad.clone()
        a.step()
        b.step()
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_orthogonalised_singular_values_are_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)).float())
    assert 0.5 < values.min() and values.max() < 1.4


def test_the_factor_of_a_tall_matrix() -> None:
    grad = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    p = nn.Parameter(torch.zeros(9, 4))
    p.grad = grad
    MuSGD([{"params": [p], "use_muon": True}], lr=0.1, muon=1.0, sgd=0.0).step()
    want = -0.1 * 1.5 * orthogonalize(grad).float()
    torch.testing.assert_close(p.detach(), want)


def test_parameters_without_gradient_stay_and_a_closure_is_called() -> None:
    p, q = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    q.grad = torch.ones(2)
    assert MuSGD([p, q], lr=0.5).step(lambda: 3.0) == 3.0
    assert p.tolist() == [1, 1] and q.tolist() == [0.5, 0.5]


def test_state_survives() -> None:
    torch.manual_seed(0)
    p = nn.Parameter(torch.randn(4, 4))
    groups = [{"params": [p], "use_muon": True}]
    first = MuSGD(groups, lr=0.1, momentum=0.9)
    p.grad = torch.randn(4, 4)
    first.step()
    assert set(first.state[p]) == {"momentum_buffer", "momentum_buffer_SGD"}
    saved, before = copy.deepcopy(first.state_dict()), p.detach().clone()
    p.grad = torch.randn(4, 4)
    first.step()
    after = p.detach().clone()
    second = MuSGD(groups, lr=0.1, momentum=0.9)
    second.load_state_dict(saved)
    with torch.no_grad():
        p.copy_(before)
    second.step()
    torch.testing.assert_close(p.detach(), after)


@pytest.mark.parametrize("bad", [{"lr": -1.0}, {"momentum": 1.5}, {"weight_decay": -0.1}])
def test_wrong_values_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="MuSGD"):
        MuSGD([nn.Parameter(torch.ones(1))], **bad)


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.cv3 = nn.ModuleList([nn.Conv2d(4, 2, 1)])
        self.gamma = nn.Parameter(torch.ones(4))
        self.frozen = nn.Parameter(torch.ones(4), requires_grad=False)


def test_groups_hold_every_parameter_once() -> None:
    net = _Net()
    groups = musgd_groups(net, lr=0.1, momentum=0.9, weight_decay=0.01)
    held = [id(p) for g in groups for p in g["params"]]
    assert sorted(held) == sorted(id(p) for p in net.parameters() if p.requires_grad)
    by = {(g["param_group"], round(g["lr"], 3)): g for g in groups}
    assert by["muon", 0.1]["params"] == [net.conv.weight] and by["muon", 0.3]["params"] == [net.cv3[0].weight]
    assert by["bias", 0.3]["params"] == [net.cv3[0].bias] and by["bias", 0.3]["weight_decay"] == 0
    assert by["weight", 0.1]["params"] == [net.gamma] and by["bn", 0.1]["params"] == [net.bn.weight]
    assert [g["use_muon"] for g in groups] == [g["param_group"] == "muon" for g in groups]
