"""The registry: one owner for a name, near names, and the arithmetic of the channel rules."""

import math

import pytest
from torch import nn

from ultralytics.nn.registry import (
    REGISTRY,
    Entry,
    Plan,
    Registry,
    RowContext,
    Scale,
    channels_first,
    register,
    same_channels,
    scaled_conv,
    scaled_repeat,
    summed_channels,
)


@pytest.mark.parametrize(("channels", "want"), [(1, 8), (8, 8), (9, 16), (100, 104)])
def test_scaled_channels_are_multiples_of_8(channels: int, want: int) -> None:
    assert RowContext((3,)).scaled(channels) == want


def test_empty_registry():
    registry = Registry()
    assert list(registry) == [] and registry.get("Conv") is None and registry.nearest("Conv") == []
    assert "Conv" not in registry


def test_one_owner():
    registry = Registry()
    first = type("Conv", (), {"__module__": "a"})
    registry.add("Conv", Entry(first, None))
    registry.add("Conv", Entry(type("Conv", (), {"__module__": "a"}), None))  # the same source, imported again
    with pytest.raises(ValueError, match=r"'Conv' is already registered by a\.Conv.*name="):
        registry.add("Conv", Entry(type("Conv", (), {"__module__": "b"}), None))
    assert list(registry) == ["Conv"]


@pytest.mark.parametrize(("name", "want"), [("conv", "Conv"), ("Cnv", "Conv"), ("SHSAA", "SHSA"), ("shsa", "SHSA")])
def test_nearest(name, want):
    registry = Registry()
    for known in ("Conv", "SHSA", "AIFI"):
        registry.add(known, Entry(type(known, (), {}), None))
    assert registry.nearest(name)[0] == want


@pytest.mark.parametrize(
    ("channels", "scale", "want"),
    [
        (64, Scale(), 64),
        (64, Scale(1, 0.25, 1024), 16),
        (1024, Scale(1, 1.25, 512), 640),  # the cap comes first
        (70, Scale(1, 0.5, math.inf), 40),
        (1, Scale(), 8),
    ],
)
def test_scaled(channels, scale, want):
    assert RowContext((3,), scale=scale).scaled(channels) == want


@pytest.mark.parametrize(
    ("channels", "error"), [(True, TypeError), ("64", TypeError), (6.5, TypeError), (0, ValueError)]
)
def test_scaled_refuses(channels, error):
    with pytest.raises(error):
        RowContext((3,)).scaled(channels)


@pytest.mark.parametrize(
    ("rule", "row", "want"),
    [
        (scaled_conv, RowContext((3,), (64, 3, 2)), Plan((3, 64, 3, 2), 64)),
        (scaled_repeat, RowContext((3,), (64, 0.5), 4), Plan((3, 64, 4, 0.5), 64, True)),
        (same_channels, RowContext((12,), (None, 2)), Plan((None, 2), 12)),
        (channels_first, RowContext((12,), (8,)), Plan((12, 8), 12)),
        (summed_channels, RowContext((12, 4), (1,)), Plan((1,), 16)),
    ],
)
def test_rules(rule, row, want):
    assert rule(row) == want


class _Option(nn.Module):
    def __init__(self, eps=1e-4):
        super().__init__()
        self.eps = eps


class _Keyword(nn.Module):
    def __init__(self, *, c=8):
        super().__init__()


class _Bare(nn.Module):
    def __init__(self):
        super().__init__()


class _Channels(nn.Module):
    def __init__(self, c1=8, eps=1e-4):
        super().__init__()


@pytest.mark.parametrize(
    ("block", "rule"), [(_Option, same_channels), (_Keyword, same_channels), (_Bare, same_channels), (_Channels, None)]
)
def test_a_first_parameter_that_is_not_a_number_gets_no_channels(block, rule):
    register(name=f"of_test_{block.__name__}")(block)
    assert REGISTRY.get(f"of_test_{block.__name__}").rule is rule
