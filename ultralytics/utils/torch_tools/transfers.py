"""Copies between the host and a GPU that wait for nothing, or for themselves alone.

A copy from ordinary memory of the host may wait for all work that the GPU has (CUDA's documentation of
`cudaMemcpyAsync`), one from pinned memory does not. On other devices these are plain copies.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ("DeviceFeed", "HostCopies", "to_device")


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; one of the host goes to a GPU from pinned memory, without a wait."""
    if not x.is_cpu or device.type == "cpu":
        return x.to(device)
    if device.type == "cuda" and x.numel():
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


class DeviceFeed:
    """Moves tensors to a device; to a GPU on a stream of its own, so that the copy runs beside the work it has.

    The stream that is current afterwards waits for the copy; the host does not.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the tensor on the device."""
        if self._stream is None or not x.is_cpu:
            return to_device(x, self.device)
        user = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._stream):
            copy = to_device(x, self.device)
        user.wait_stream(self._stream)
        copy.record_stream(user)  # made on the other stream, whose allocator would otherwise reuse it too early
        return copy


class HostCopies:
    """Tensors on their way to the host: from a GPU in one go, on a stream of their own.

    copies = HostCopies([costs])
    ...  # more work for the GPU
    (costs,) = copies.wait()  # for the copies alone, not for that work
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        cuda = [x for x in tensors if x.device.type == "cuda"]
        self._done = None
        if not cuda:
            self._copies = [x.cpu() for x in tensors]
            return
        device = cuda[0].device
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            self._copies = [x.to("cpu", non_blocking=True) for x in tensors]  # into pinned memory
        for x in cuda:
            x.record_stream(stream)
        self._done = stream.record_event()

    def wait(self) -> list[Tensor]:
        """Return the tensors on the host once they are complete."""
        if self._done is not None:
            self._done.synchronize()
            self._done = None
        return self._copies
