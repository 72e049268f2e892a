"""Copies of networks with hooks, pruning and computed tensors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from ultralytics.utils.torch_tools.copying import copy_network, has_hooks, share_hooks


class Counter:
    """A hook that is a bound method."""

    def __init__(self) -> None:
        self.calls = 0

    def count(self, *_: object) -> None:
        self.calls += 1


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())


X = torch.linspace(-1, 1, 12).view(1, 3, 2, 2)


def test_the_owner_of_a_hook_is_shared_only_when_asked() -> None:
    net, counter = network(), Counter()
    handle = net[1].register_forward_hook(counter.count)
    assert has_hooks(net)
    copy_network(net)(X)
    assert counter.calls == 0
    shared = copy_network(net, share_hooks=True)
    shared(X)
    assert counter.calls == 1
    handle.remove()
    shared(X)
    assert counter.calls == 1 and not has_hooks(net)
    net[0].register_forward_pre_hook(counter.count)
    shared(X)
    assert counter.calls == 2


def test_hooks_with_keyword_arguments_are_called_so_on_the_other_network() -> None:
    net, other, seen = network(), network(), []

    def keep(module: nn.Module, args: object, kwargs: object, output: Tensor) -> None:
        seen.append(kwargs)

    net[1].register_forward_hook(keep, with_kwargs=True)
    share_hooks(net, other)
    other(X)
    assert seen == [{}]


def pruned(net: nn.Sequential) -> None:
    prune.l1_unstructured(net[0], "weight", amount=0.5)


def normed(net: nn.Sequential) -> None:
    parametrizations.weight_norm(net[0])


def computed_buffer(net: nn.Sequential) -> None:
    net[0].register_buffer("twice", net[0].weight * 2)


@pytest.mark.parametrize("change", [pruned, normed, computed_buffer])
@pytest.mark.parametrize("shared", [False, True])
def test_computed_tensors_are_copied(change: object, shared: bool) -> None:
    net = network()
    change(net)  # type: ignore[operator]
    copied = copy_network(net, shared)
    assert torch.equal(copied(X), net(X))
    assert copied[0].weight.data_ptr() != net[0].weight.data_ptr()
    with torch.no_grad():
        for p in copied.parameters():
            p.mul_(2)
    assert not torch.equal(copied(X), net(X))
