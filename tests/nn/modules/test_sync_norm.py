"""Synchronised batch norms on a CPU; what they compute is in tests/engine/training/test_processes.py."""

import torch
from torch import nn

from ultralytics.nn.modules.sync_norm import SyncNorm, convert_norms


def test_conversion_keeps_the_parameters_that_an_optimizer_holds():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, eps=1e-3, momentum=0.03), nn.Sequential(nn.BatchNorm2d(4))
    )
    network[1].bias.requires_grad_(False)
    network[2].eval()
    before, statistics = dict(network.named_parameters()), dict(network.named_buffers())
    convert_norms(network, torch.device("cpu"))
    assert isinstance(network[1], SyncNorm) and isinstance(network[2][0], SyncNorm)
    assert all(p is before[name] for name, p in network.named_parameters()) and len(before) == 6
    assert all(b is statistics[name] for name, b in network.named_buffers()) and len(statistics) == 6
    assert (network[1].eps, network[1].momentum, network[1].training, network[2][0].training) == (
        1e-3,
        0.03,
        True,
        False,
    )
    assert not network[1].bias.requires_grad
