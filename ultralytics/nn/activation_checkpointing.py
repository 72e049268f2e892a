"""Activation checkpointing: a layer's inner activations are not kept, but computed again when its gradient is due.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174. Only what goes from layer to layer
stays in memory, for the price of a second forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def run_again_in_backward(layer: nn.Module, x: Any) -> Any:
    """Return `layer(x)`, whose activations the backward pass computes again.

    Random numbers and precision are those of the first run, and buffers (the statistics of batch norms) move in the
    first run alone, so that gradients and state are those of a plain call, bit by bit where kernels are deterministic.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), buffers_set_aside(layer)

    return checkpoint(layer, x, use_reentrant=False, context_fn=contexts)


@contextmanager
def buffers_set_aside(module: nn.Module) -> Iterator[None]:
    """Let copies of the buffers stand in for them until the block ends: what is written to them is forgotten.

    Clones, not None, because autograd must save as many tensors in the second run as in the first.
    """
    owners = [(m, dict(m._buffers)) for m in module.modules() if m._buffers]
    for owner, buffers in owners:
        owner._buffers.update({name: None if b is None else b.clone() for name, b in buffers.items()})
    try:
        yield
    finally:
        for owner, buffers in owners:
            owner._buffers.update(buffers)
