"""The measured end of the classifier benchmark: SHViT of this tree, or a model of `timm`, by the paper's protocol.

Ours is fused by itself, timm's re-parameterised where timm can; both are then traced and frozen, which folds the batch
norms that are left. The fast setting adds channels-last and, where the CPU has it, bfloat16.
"""

from __future__ import annotations

import contextlib
from typing import Any

import serve
import torch


def build(name: str) -> torch.nn.Module:
    """`ours` is this tree's SHViT-S4; any other name is timm's, re-parameterised where timm can."""
    if name == "ours":
        from ultralytics.nn.cpu.malloc import keep_freed_memory
        from ultralytics.nn.modules import shvit_s4

        keep_freed_memory()  # as `predict` does
        return shvit_s4().eval().fuse()
    import timm
    from timm.utils.model import reparameterize_model

    return reparameterize_model(timm.create_model(name, pretrained=False).eval())


def images(turns: serve.Turns, name: str, imgsz: int, batch: int, fast: bool, bf16: bool) -> None:
    """One batch through the network."""
    torch.manual_seed(0)
    model: Any = build(name)
    x = torch.rand(batch, 3, imgsz, imgsz)
    if fast:
        model, x = model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    low = torch.autocast("cpu", torch.bfloat16, cache_enabled=False) if bf16 else contextlib.nullcontext()
    with torch.no_grad(), low:
        model = torch.jit.freeze(torch.jit.trace(model, x))

    def work() -> None:
        with torch.no_grad(), low:
            model(x)

    turns.repeat(work)


if __name__ == "__main__":
    serve.main({"images": images})
