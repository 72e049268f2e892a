"""Activation checkpointing: the inner activations of a layer are not kept, but computed again in the backward pass.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174. Only the outputs of layers stay
in memory, at the cost of a second forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_layer(layer: nn.Module, x: object) -> object:
    """Return `layer(x)`, whose activations the backward pass computes again.

    Random numbers and precision are those of the first run, and buffers (the statistics of batch norms) move in the
    first run alone, so that gradients and state are those of a plain call, bit by bit where kernels are deterministic.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), preserve_buffers(layer)

    output: object = checkpoint(layer, x, use_reentrant=False, context_fn=contexts)
    return output


@contextmanager
def preserve_buffers(module: nn.Module) -> Iterator[None]:
    """Use copies of the buffers until the block ends, then restore the originals, which discards updates.

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
