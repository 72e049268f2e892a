"""Matching class names and grouping a transfer's report."""

import pytest
import torch
from torch import nn

from ultralytics.nn.transfer import TransferReport, match_names, transfer


@pytest.mark.parametrize(
    ("target", "source", "want"),
    [
        ({}, {}, []),
        ({}, {0: "cat"}, []),
        ({0: "cat"}, {0: "cat"}, []),  # the same: plain copying does it
        ({0: "0", 1: "1"}, {0: "cat", 1: "dog"}, []),  # placeholders say nothing
        ({0: "cat", 1: "dog"}, {0: "0", 1: "1"}, []),
        ({0: "cat", 1: "dog"}, {0: "dog", 1: "cat"}, [(0, 1), (1, 0)]),
        ({0: "Traffic Light"}, {0: "car", 1: "trafficlight"}, [(0, 1)]),
        ({0: "cat"}, {0: "bus", 1: "car"}, []),
    ],
)
def test_match_names(target, source, want):
    assert match_names(target, source) == want


def test_empty_transfer():
    report = transfer(nn.Linear(2, 2), {})
    assert report.copied == [] and report.fresh == ["weight", "bias"]
    assert report.lines()[0] == "Transferred 0/2 tensors"
    assert TransferReport().lines() == ["Transferred 0/0 tensors"]


def test_shapes_must_agree():
    net = nn.Linear(2, 2)
    source = {"weight": torch.ones(2, 2), "bias": torch.ones(3), "other": torch.ones(1)}
    report = transfer(net, source)
    assert (report.copied, report.fresh, report.dropped) == (["weight"], ["bias"], ["bias", "other"])
    assert torch.equal(net.weight, torch.ones(2, 2))
