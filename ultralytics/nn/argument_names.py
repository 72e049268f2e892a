"""Other names of constructor arguments: one published block calls its kernel `k`, the next `kernel_size`.

A registered block of this package takes each of its arguments under every name of a group below, in Python and in a
row of a model YAML. Its signature shows the block's own names, which always come first.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

_GROUPS = tuple(
    frozenset(group.split())
    for group in (
        "c1 c c_in ch channel channels dim dim_in in_channel in_channels in_features in_planes in_size inp input_dim",
        "c2 c_out dim_out embed_dim oup ouc out_channel out_channels out_dim out_features out_planes",
        "inc c1",
        "inc inc_list in_channel_list channels",
        "c dim c2",
        "c out_channels",
        "d dim input_dim",
        "k kernel kernel_size k_size",
        "s stride",
        "p pad padding",
        "g group groups",
        "d dilation dilation_rate",
        "head heads num_heads nh",
        "kernels kernel_sizes",
        "caa with_caa",
        "caa_k caa_kernel caa_kernel_size",
        "identity add_identity",
        "window window_size window_resolution",
        "se se_ratio",
        "hidden hidden_features",
        "internal internal_channels_1x1_3x3",
        "layer_scale layer_scale_init_value",
        "local local_size",
        "k_att kernel_att",
        "k_conv kernel_conv",
        "reduce reduction ratio channelAttention_reduce",
        "mode fusion",
        "N length",
        "n c5",
        "t threshold",
    )
)
"""Names that mean one thing. A name may be in several groups; it stands for an argument if just one can be meant."""


def own_name(name: str, parameters: Iterable[str]) -> str:
    """Return the parameter that a name stands for; the name itself where it is one, or where none or several fit.

    >>> own_name("kernel_size", ["c1", "c2", "k"]), own_name("kernel_size", ["kernel_size", "k"])
    ('k', 'kernel_size')
    """
    known = set(parameters)
    if name in known:
        return name
    meant = {p for group in _GROUPS if name in group for p in group & known}
    return meant.pop() if len(meant) == 1 else name


def other_names(parameter: str, parameters: Iterable[str]) -> list[str]:
    """Return the further names of one of a block's parameters, sorted.

    >>> other_names("s", ["c1", "c2", "k", "s"])
    ['stride']
    """
    known = list(parameters)
    names = {name for group in _GROUPS if parameter in group for name in group}
    return sorted(name for name in names if name not in known and own_name(name, known) == parameter)


def by_own_names(cls: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return named arguments of a constructor under its own names.

    Raises:
        TypeError: One argument is given under two names.
    """
    if not given:
        return {}
    try:
        parameters = list(inspect.signature(cls).parameters)
    except (TypeError, ValueError):  # without a signature that Python can read
        return dict(given)
    named = {name: value for name, value in given.items() if name in parameters}
    for name, value in given.items():
        if name in parameters:
            continue
        own = own_name(name, [p for p in parameters if p not in named])
        if own == name and (taken := own_name(name, parameters)) != name:
            raise TypeError(f"{name}= is another name of {taken}=; give one of them")
        named[own] = value
    return named


def take_other_names(cls: type) -> None:
    """Let the constructor of a block take its arguments under their other names, too."""
    init = getattr(cls, "__init__")  # noqa: B009  its own or that of a base class
    if hasattr(init, "__wrapped__") or not str(init.__module__).startswith(__package__):
        return

    @functools.wraps(init)
    def renaming(self: object, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **by_own_names(cls, kwargs))

    setattr(cls, "__init__", renaming)  # noqa: B010  mypy takes an assignment for an unsound override
