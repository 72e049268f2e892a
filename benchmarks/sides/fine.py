"""The measured end of this tree's D-FINE-S: a training step on one batch, laid out as a training run has it."""

from __future__ import annotations

import serve
import torch
from steps import OBJECTS, targets, train_in_turns

from ultralytics import RTDETR
from ultralytics.nn.cpu.malloc import retain_freed_memory


def step(turns: serve.Turns, imgsz: int, batch: int, bf16: bool = False) -> None:
    """A training step of D-FINE-S: loss, gradients, clipping, AdamW."""
    retain_freed_memory()  # as a training run does
    model = RTDETR("dfine-s.yaml").model.to(memory_format=torch.channels_last).train()
    rows = targets(batch)
    images = torch.rand(batch, 3, imgsz, imgsz).contiguous(memory_format=torch.channels_last)
    data = {
        "img": images,
        "cls": torch.cat([cls for cls, _ in rows]).view(-1, 1),
        "bboxes": torch.cat([boxes for _, boxes in rows]),
        "batch_idx": torch.arange(batch).repeat_interleave(OBJECTS).float(),
    }
    train_in_turns(turns, model, lambda: model(data)[0], bf16)


if __name__ == "__main__":
    serve.main({"step": step})
