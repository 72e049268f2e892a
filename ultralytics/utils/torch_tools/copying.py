"""Copies of networks to which hooks, pruning and attributes were added."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

from torch import Tensor, nn

HOOK_DICTIONARIES = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_pre_hooks",
    "_backward_hooks",
)
"""Attributes of a module that hold its hooks and how they are called."""

Network = TypeVar("Network", bound=nn.Module)


def copy_network(network: Network, share_hooks: bool = False) -> Network:
    """Return a deep copy, also of a network with computed tensors, as pruning and `weight_norm` leave them.

    A computed tensor, which `copy.deepcopy` refuses, is copied detached. With `share_hooks` both networks have the very
    same dictionaries of hooks: a hook that is set on or removed from a module of one is so on the other, and the owner
    of a bound method is not copied.
    """
    memo: dict[int, Any] = {id(t): t.detach().clone() for t in _computed(network)}
    if share_hooks:
        for module in network.modules():
            hooks = [getattr(module, name) for name in HOOK_DICTIONARIES]
            memo.update((id(kept), kept) for kept in hooks)
    return copy.deepcopy(network, memo)


def share_hooks(network: nn.Module, other: nn.Module) -> None:
    """Let `other` have the dictionaries of hooks of the modules of `network` that have the same names, in place."""
    modules = dict(other.named_modules())
    for name, module in network.named_modules():
        if name in modules:
            for kept in HOOK_DICTIONARIES:
                setattr(modules[name], kept, getattr(module, kept))


def has_hooks(network: nn.Module) -> bool:
    """Whether a module has a hook that runs in a forward or backward pass."""
    return any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
        for m in network.modules()
    )  # fmt: skip


def has_own_forward(network: nn.Module) -> bool:
    """Whether an instance of a module has a `forward` that its class does not define, as scripts set one."""
    return any("forward" in vars(m) and not _is_of_class(m, vars(m)["forward"]) for m in network.modules())


def _is_of_class(module: nn.Module, method: object) -> bool:
    """Whether a method is one that the module's class or a base of it defines, such as `forward_fuse`."""
    function = getattr(method, "__func__", None)
    name = getattr(function, "__name__", "")
    return function is not None and any(vars(base).get(name) is function for base in type(module).__mro__)


def _computed(network: nn.Module) -> Iterator[Tensor]:
    """Yield the tensors among the attributes and buffers that are results of operations with a gradient."""
    for module in network.modules():
        for value in (*vars(module).values(), *module._buffers.values()):
            if isinstance(value, Tensor) and not value.is_leaf:
                yield value
