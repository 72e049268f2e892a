"""Copies between the host and a device, on the CPU and on a GPU that is pretended."""

from __future__ import annotations

import torch

from tests.engine.training.pretended import COPIES, CUDA, pretended_gpu
from ultralytics.utils.torch_tools.transfers import DeviceFeed, HostCopies, to_device

HOST = torch.device("cpu")


def test_on_a_cpu_nothing_is_copied() -> None:
    x = torch.arange(3.0)
    assert to_device(x, HOST) is x and DeviceFeed(HOST)(x) is x
    assert HostCopies([x]).wait()[0] is x and HostCopies([]).wait() == []


def test_tensors_go_to_a_gpu_without_a_wait_and_come_back_with_one() -> None:
    with pretended_gpu() as waits:
        feed = DeviceFeed(CUDA)
        there = [to_device(torch.arange(3.0), CUDA), feed(torch.ones(2)), feed(torch.zeros(0, 4))]
        assert all(x.device == CUDA for x in there)
        assert feed(there[0]) is there[0] and not waits
        assert to_device(there[0], HOST).tolist() == [0, 1, 2] and len(waits) == 1  # a plain copy waits
        copies = HostCopies([*there, torch.tensor([5.0])])  # one of them is here already
        assert [x.tolist() for x in copies.wait()] == [[0, 1, 2], [1, 1], [], [5]]
        assert [w.split()[0] for w in waits[1:]] == ["event"]
        assert [line.split(" [")[0] for line in COPIES.get()] == ["to device"] * 3 + ["to host"] * 4
        copies.wait()
        assert len(waits) == 2  # they are complete
