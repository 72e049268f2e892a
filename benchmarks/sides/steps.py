"""What the sides of a benchmark of training steps share: the same targets, the same loop."""

from __future__ import annotations

from collections.abc import Callable

import serve
import torch
from torch import Tensor, nn

OBJECTS = 8


def targets(images: int) -> list[tuple[Tensor, Tensor]]:
    """Class numbers (8,) and boxes (8, 4) as cx, cy, w, h in 0..1 of each image."""
    make = torch.Generator().manual_seed(0)
    found = []
    for _ in range(images):
        boxes = torch.cat((torch.rand(OBJECTS, 2, generator=make) * 0.6 + 0.2, torch.full((OBJECTS, 2), 0.15)), 1)
        found.append((torch.randint(0, 80, (OBJECTS,), generator=make), boxes))
    return found


def train_in_turns(turns: serve.Turns, model: nn.Module, loss: Callable[[], Tensor], bf16: bool) -> None:
    """Time steps: forward pass and loss (in bfloat16 by autocast when asked), gradients, clipping, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def work() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss()
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()

    turns.repeat(work, parameters=sum(p.numel() for p in model.parameters()))
